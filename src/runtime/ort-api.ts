/** ONNX Runtime's C API through koffi: loading the library, calling by table index, turning statuses into errors. */
import { createRequire } from "node:module";
import { RuntimeError } from "../errors.ts";
import { findLibrary } from "./library.ts";
import {
  API_VERSION,
  ERROR_CODES,
  type FunctionName,
  type FunctionSpec,
  ORT_FUNCTIONS,
} from "./ort-functions.ts";

/** A C pointer. */
export type Pointer = bigint;

/** What crosses into C: pointers, numbers, strings, arrays of strings. */
export type CArgument = Pointer | number | string | boolean | null | readonly string[];

type Koffi = typeof import("koffi");
type CFunction = ((...args: CArgument[]) => unknown) & {
  async: (...args: [...CArgument[], (error: unknown, result: unknown) => void]) => void;
};

const C_TYPES = {
  ptr: "void *",
  str: "const char *",
  strs: "const char **",
  int: "int",
  size: "size_t",
  bool: "bool",
  void: "void",
  status: "void *",
} as const;

/**
 * koffi runs C code on a stack of its own, by default 128 kB for asynchronous calls. Measured: a small matrix product
 * overflows 64 kB, which ends the process. Pages that are not touched cost nothing.
 */
const ASYNC_STACK_BYTES = 4 << 20;

/** ORT_LOGGING_LEVEL_FATAL: what is logged as an error comes back as a status as well, and stderr is the user's. */
const LOG_SEVERITY = 4;
/** dlfcn.h, the same number on Linux and macOS. */
const RTLD_NOW = 2;
const ARENA_ALLOCATOR = 1;
const MEM_TYPE_DEFAULT = 0;

/** Memory for C to write one pointer or number to. */
export class OutSlot {
  readonly address: Pointer;
  readonly #memory = new BigUint64Array(1);

  constructor(api: Pick<OrtApi, "address">) {
    this.address = api.address(this.#memory);
  }

  /** The 64 bits last written, little-endian as on every supported platform. */
  get value(): bigint {
    return this.#memory[0]!;
  }

  clear(): void {
    this.#memory[0] = 0n;
  }
}

/** The loaded library. `loadOrtApi` makes it. */
export class OrtApi {
  readonly libraryPath: string;
  /** The library's own version, such as "1.30.0". */
  readonly version: string;
  readonly #koffi: Koffi;
  readonly #table: Pointer;
  readonly #functions = new Map<FunctionName, CFunction>();
  readonly #scratch: OutSlot;
  /** What zero-length arrays point at: ONNX Runtime refuses null even for no data. */
  readonly #nothing = new Uint8Array(128);
  #env: Pointer | undefined;
  #memoryInfo: Pointer | undefined;
  #allocator: Pointer | undefined;

  constructor(koffi: Koffi, libraryPath: string) {
    this.#koffi = koffi;
    this.libraryPath = libraryPath;
    const [getApi, getVersion] = koffi.decode(loadApiBase(koffi, libraryPath), "void *", 2) as Pointer[];
    this.version = String(koffi.call(getVersion, koffi.proto("const char *", [])));
    const table: Pointer | null = koffi.call(getApi, koffi.proto("void *", ["uint32_t"]), API_VERSION);
    if (!table) {
      throw new RuntimeError(
        `${libraryPath}: expected ONNX Runtime with API version ${API_VERSION} or newer, got release ${this.version}`,
      );
    }
    this.#table = table;
    this.#scratch = new OutSlot(this);
  }

  /** Calls a function that returns a status. Throws a RuntimeError when it failed. */
  check(name: FunctionName, ...args: CArgument[]): void {
    this.#checkStatus(name, this.#function(name)(...args));
  }

  /** As `check`, on a worker thread: memory behind the arguments must stay until the promise settles. */
  checkAsync(name: FunctionName, ...args: CArgument[]): Promise<void> {
    const call = this.#function(name);
    return new Promise((resolve, reject) => {
      call.async(...args, (error, status) => {
        try {
          if (error) throw error;
          this.#checkStatus(name, status);
          resolve();
        } catch (cause) {
          reject(cause);
        }
      });
    });
  }

  /** Calls a release function. */
  release(name: FunctionName, pointer: Pointer): void {
    this.#function(name)(pointer);
  }

  /** Calls a function whose last parameter is `T **out`, and returns that pointer. */
  create(name: FunctionName, ...args: CArgument[]): Pointer {
    this.check(name, ...args, this.#scratch.address);
    return this.#scratch.value;
  }

  /** Calls a function whose last parameter is `size_t *out` or `int *out`, and returns the number. */
  query(name: FunctionName, ...args: CArgument[]): number {
    this.#scratch.clear(); // an int fills only the lower half
    this.check(name, ...args, this.#scratch.address);
    return Number(this.#scratch.value);
  }

  /** Calls a function that hands out a string of ONNX Runtime's allocator (last two parameters), and frees it. */
  string(name: FunctionName, ...args: CArgument[]): string {
    this.#allocator ??= this.create("GetAllocatorWithDefaultOptions");
    const pointer = this.create(name, ...args, this.#allocator);
    const text = this.readString(pointer);
    this.check("AllocatorFree", this.#allocator, pointer);
    return text;
  }

  readString(pointer: Pointer): string {
    return this.#koffi.decode.string(pointer);
  }

  /**
   * The address of a typed array's memory, good while the array is referenced. V8 keeps arrays of at most 64 bytes
   * inside its moving heap until their ArrayBuffer is asked for; reading `buffer` moves the elements out, for good.
   */
  address(array: ArrayBufferView): Pointer {
    void array.buffer;
    return this.#koffi.address(array.byteLength === 0 ? this.#nothing : array);
  }

  /** The process's environment. Never released: the library shares one among all its users. */
  get env(): Pointer {
    this.#env ??= this.create("CreateEnv", LOG_SEVERITY, "lapidary");
    return this.#env;
  }

  /** Describes ordinary memory. Lives as long as the process, like `env`. */
  get cpuMemory(): Pointer {
    this.#memoryInfo ??= this.create("CreateCpuMemoryInfo", ARENA_ALLOCATOR, MEM_TYPE_DEFAULT);
    return this.#memoryInfo;
  }

  #function(name: FunctionName): CFunction {
    let bound = this.#functions.get(name);
    if (bound === undefined) {
      const spec: FunctionSpec = ORT_FUNCTIONS[name];
      const parameters = spec.parameters.map((type) => C_TYPES[type]);
      const pointer: Pointer = this.#koffi.decode(this.#table, spec.index * 8, "void *");
      bound = this.#koffi.decode(pointer, this.#koffi.proto(C_TYPES[spec.result], parameters)) as CFunction;
      this.#functions.set(name, bound);
    }
    return bound;
  }

  #checkStatus(name: FunctionName, status: unknown): void {
    if (!status) return;
    const pointer = status as Pointer;
    const number = this.#function("GetErrorCode")(pointer) as number;
    const message = String(this.#function("GetErrorMessage")(pointer));
    this.release("ReleaseStatus", pointer);
    const code = ERROR_CODES[number] ?? `ORT_ERROR_${number}`;
    throw new RuntimeError(`ONNX Runtime, ${name}: ${code}: ${message.trim()}`, { code });
  }
}

let loaded: OrtApi | undefined;

/** Loads koffi and the library, once per process. Throws a RuntimeError that says which of the two is missing. */
export function loadOrtApi(libraryPath?: string): OrtApi {
  if (loaded !== undefined && (libraryPath === undefined || libraryPath === loaded.libraryPath))
    return loaded;
  if (loaded !== undefined) {
    throw new RuntimeError(`ONNX Runtime is already loaded from ${loaded.libraryPath}, not ${libraryPath}`);
  }
  const path = findLibrary({ path: libraryPath });
  const koffi = loadKoffi();
  growStack(koffi);
  loaded = new OrtApi(koffi, path);
  return loaded;
}

/** Synchronously and on demand, so that a platform without koffi can still take the other engine. */
function loadKoffi(): Koffi {
  try {
    return createRequire(import.meta.url)("koffi") as Koffi;
  } catch (cause) {
    throw new RuntimeError(`koffi, which calls ONNX Runtime's C API, cannot be loaded: ${String(cause)}`, {
      cause,
    });
  }
}

/** koffi takes settings only before its first library. A stack that overflows ends the process, so rather refuse. */
function growStack(koffi: Koffi): void {
  const size = koffi.config().async_stack_size ?? 0;
  if (size >= ASYNC_STACK_BYTES) return;
  try {
    koffi.config({ async_stack_size: ASYNC_STACK_BYTES });
  } catch (cause) {
    throw new RuntimeError(
      `another package used koffi first, with async_stack_size ${size}; expected at least ${ASYNC_STACK_BYTES}: load lapidary's engine before it, or set this size there`,
      { cause },
    );
  }
}

function loadApiBase(koffi: Koffi, libraryPath: string): Pointer {
  try {
    const getApiBase = koffi.load(libraryPath).func("OrtGetApiBase", "void *", []);
    pinLibrary(koffi, libraryPath);
    return getApiBase();
  } catch (cause) {
    throw new RuntimeError(`ONNX Runtime's library ${libraryPath} cannot be loaded: ${String(cause)}`, {
      cause,
    });
  }
}

/**
 * Loads the library once more and never lets go of it. koffi unloads a library when its handle is collected or the
 * process winds up, while ONNX Runtime's threads may still be running its code.
 */
function pinLibrary(koffi: Koffi, libraryPath: string): void {
  if (process.platform === "win32") {
    koffi.load("kernel32.dll").func("LoadLibraryW", "void *", ["const char16_t *"])(libraryPath);
  } else {
    koffi.load(null).func("dlopen", "void *", ["const char *", "int"])(libraryPath, RTLD_NOW);
  }
}
