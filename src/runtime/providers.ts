/** Execution providers other than the CPU's. */
import { InputError, RuntimeError } from "../errors.ts";
import type { OrtApi, Pointer } from "./ort-api.ts";
import type { Device } from "./session.ts";

/** Adds the provider for `device` to session options. Throws a RuntimeError that says what is missing. */
export function appendProvider(api: OrtApi, sessionOptions: Pointer, device: Device): void {
  if (device === "cpu") return;
  if (device !== "cuda" && device !== "webgpu") {
    throw new InputError(`device "${String(device)}": expected cpu, cuda or webgpu`, { option: "device" });
  }
  try {
    if (device === "cuda") appendCuda(api, sessionOptions);
    else api.check("SessionOptionsAppendExecutionProvider", sessionOptions, "WebGPU", [], [], 0);
  } catch (cause) {
    throw new RuntimeError(`device "${device}": ${missing(api, device)}. ${String(cause)}`, {
      cause,
      ...(cause instanceof RuntimeError && cause.code !== undefined ? { code: cause.code } : {}),
    });
  }
}

function appendCuda(api: OrtApi, sessionOptions: Pointer): void {
  const cuda = api.create("CreateCUDAProviderOptions");
  try {
    api.check("SessionOptionsAppendExecutionProvider_CUDA_V2", sessionOptions, cuda);
  } finally {
    api.release("ReleaseCUDAProviderOptions", cuda);
  }
}

function missing(api: OrtApi, device: Device): string {
  return device === "cuda"
    ? `needs libonnxruntime_providers_cuda and libonnxruntime_providers_shared beside ${api.libraryPath}, and CUDA with cuDNN`
    : "needs an ONNX Runtime library built with WebGPU";
}
