/**
 * The functions of ONNX Runtime's C API that lapidary calls, by their index in the append-only table OrtApi.
 * "ptr" is any pointer, as a BigInt; "str" a string and "strs" an array of strings that live for the call.
 */

/** Highest table version asked for; the newest function below is from 1.22. */
export const API_VERSION = 23;

/** The functions bound, by their names in onnxruntime_c_api.h. */
export type FunctionName =
  | "GetErrorCode"
  | "GetErrorMessage"
  | "CreateEnv"
  | "CreateSessionFromArray"
  | "Run"
  | "CreateSessionOptions"
  | "SetOptimizedModelFilePath"
  | "SetSessionExecutionMode"
  | "DisableMemPattern"
  | "SetSessionGraphOptimizationLevel"
  | "SetIntraOpNumThreads"
  | "SetInterOpNumThreads"
  | "SessionGetInputCount"
  | "SessionGetOutputCount"
  | "SessionGetInputTypeInfo"
  | "SessionGetOutputTypeInfo"
  | "SessionGetInputName"
  | "SessionGetOutputName"
  | "CreateRunOptions"
  | "RunOptionsSetTerminate"
  | "RunOptionsUnsetTerminate"
  | "CreateTensorWithDataAsOrtValue"
  | "CastTypeInfoToTensorInfo"
  | "GetTensorElementType"
  | "GetDimensionsCount"
  | "GetDimensions"
  | "GetSymbolicDimensions"
  | "CreateCpuMemoryInfo"
  | "AllocatorFree"
  | "GetAllocatorWithDefaultOptions"
  | "ReleaseStatus"
  | "ReleaseMemoryInfo"
  | "ReleaseSession"
  | "ReleaseValue"
  | "ReleaseRunOptions"
  | "ReleaseTypeInfo"
  | "ReleaseSessionOptions"
  | "AddSessionConfigEntry"
  | "SessionOptionsAppendExecutionProvider_CUDA_V2"
  | "CreateCUDAProviderOptions"
  | "ReleaseCUDAProviderOptions"
  | "SessionOptionsAppendExecutionProvider"
  | "SessionOptionsSetLoadCancellationFlag";

/** A parameter's type in C, see above. */
type CType = "ptr" | "str" | "strs" | "int" | "size" | "bool" | "void";

/** One entry of the table: index, result and parameters. A result of "status" is checked by the caller's wrapper. */
export interface FunctionSpec {
  readonly index: number;
  readonly result: "status" | "void" | "int" | "str";
  readonly parameters: readonly CType[];
}

function status(index: number, ...parameters: CType[]): FunctionSpec {
  return { index, result: "status", parameters };
}

function release(index: number): FunctionSpec {
  return { index, result: "void", parameters: ["ptr"] };
}

/** The bound part of OrtApi. */
export const ORT_FUNCTIONS: Readonly<Record<FunctionName, FunctionSpec>> = {
  GetErrorCode: { index: 1, result: "int", parameters: ["ptr"] },
  GetErrorMessage: { index: 2, result: "str", parameters: ["ptr"] },
  CreateEnv: status(3, "int", "str", "ptr"),
  CreateSessionFromArray: status(8, "ptr", "ptr", "size", "ptr", "ptr"),
  Run: status(9, "ptr", "ptr", "ptr", "ptr", "size", "ptr", "size", "ptr"),
  CreateSessionOptions: status(10, "ptr"),
  SetOptimizedModelFilePath: status(11, "ptr", "str"),
  SetSessionExecutionMode: status(13, "ptr", "int"),
  DisableMemPattern: status(17, "ptr"),
  SetSessionGraphOptimizationLevel: status(23, "ptr", "int"),
  SetIntraOpNumThreads: status(24, "ptr", "int"),
  SetInterOpNumThreads: status(25, "ptr", "int"),
  SessionGetInputCount: status(30, "ptr", "ptr"),
  SessionGetOutputCount: status(31, "ptr", "ptr"),
  SessionGetInputTypeInfo: status(33, "ptr", "size", "ptr"),
  SessionGetOutputTypeInfo: status(34, "ptr", "size", "ptr"),
  SessionGetInputName: status(36, "ptr", "size", "ptr", "ptr"),
  SessionGetOutputName: status(37, "ptr", "size", "ptr", "ptr"),
  CreateRunOptions: status(39, "ptr"),
  RunOptionsSetTerminate: status(46, "ptr"),
  RunOptionsUnsetTerminate: status(47, "ptr"),
  CreateTensorWithDataAsOrtValue: status(49, "ptr", "ptr", "size", "ptr", "size", "int", "ptr"),
  CastTypeInfoToTensorInfo: status(55, "ptr", "ptr"),
  GetTensorElementType: status(60, "ptr", "ptr"),
  GetDimensionsCount: status(61, "ptr", "ptr"),
  GetDimensions: status(62, "ptr", "ptr", "size"),
  GetSymbolicDimensions: status(63, "ptr", "ptr", "size"),
  CreateCpuMemoryInfo: status(69, "int", "int", "ptr"),
  AllocatorFree: status(76, "ptr", "ptr"),
  GetAllocatorWithDefaultOptions: status(78, "ptr"),
  ReleaseStatus: release(93),
  ReleaseMemoryInfo: release(94),
  ReleaseSession: release(95),
  ReleaseValue: release(96),
  ReleaseRunOptions: release(97),
  ReleaseTypeInfo: release(98),
  ReleaseSessionOptions: release(100),
  AddSessionConfigEntry: status(130, "ptr", "str", "str"),
  SessionOptionsAppendExecutionProvider_CUDA_V2: status(204, "ptr", "ptr"),
  CreateCUDAProviderOptions: status(205, "ptr"),
  ReleaseCUDAProviderOptions: release(208),
  SessionOptionsAppendExecutionProvider: status(216, "ptr", "str", "strs", "strs", "size"),
  SessionOptionsSetLoadCancellationFlag: status(293, "ptr", "bool"),
};

/** OrtErrorCode in onnxruntime_c_api.h, by number. */
export const ERROR_CODES: readonly string[] = [
  "ORT_OK",
  "ORT_FAIL",
  "ORT_INVALID_ARGUMENT",
  "ORT_NO_SUCHFILE",
  "ORT_NO_MODEL",
  "ORT_ENGINE_ERROR",
  "ORT_RUNTIME_EXCEPTION",
  "ORT_INVALID_PROTOBUF",
  "ORT_MODEL_LOADED",
  "ORT_NOT_IMPLEMENTED",
  "ORT_INVALID_GRAPH",
  "ORT_EP_FAIL",
  "ORT_MODEL_LOAD_CANCELED",
  "ORT_MODEL_REQUIRES_COMPILATION",
  "ORT_NOT_FOUND",
];
