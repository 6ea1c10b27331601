/** Execution providers other than the CPU's. */
import { RuntimeError } from "../errors.ts";
import type { OrtApi, Pointer } from "./ort-api.ts";
import type { Device } from "./session.ts";

/** Adds the provider for `device` to session options. */
export function appendProvider(api: OrtApi, sessionOptions: Pointer, device: Device): void {
  if (device === "webgpu") {
    api.check("SessionOptionsAppendExecutionProvider", sessionOptions, "WebGPU", [], [], 0);
  } else if (device === "cuda") {
    const cuda = api.create("CreateCUDAProviderOptions");
    try {
      api.check("SessionOptionsAppendExecutionProvider_CUDA_V2", sessionOptions, cuda);
    } finally {
      api.release("ReleaseCUDAProviderOptions", cuda);
    }
  }
}

/** The error for a session that failed on `device`: what the device needs, then what ONNX Runtime said. */
export function providerError(api: OrtApi, device: Exclude<Device, "cpu">, cause: unknown): unknown {
  if (!(cause instanceof RuntimeError)) return cause;
  return new RuntimeError(`device "${device}" needs ${needs(api, device)}. ${cause.message}`, {
    cause,
    ...(cause.code === undefined ? {} : { code: cause.code }),
  });
}

function needs(api: OrtApi, device: Exclude<Device, "cpu">): string {
  return device === "cuda"
    ? `an NVIDIA GPU, CUDA with cuDNN, and ONNX Runtime's providers_shared and providers_cuda libraries beside ${api.libraryPath}`
    : "a GPU with a Vulkan, Metal or Direct3D 12 driver (on Linux libvulkan.so.1)";
}
