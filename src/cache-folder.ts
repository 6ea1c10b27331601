import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { expandHome, variable } from "./env.ts";

/** lapidary's own cache: LAPIDARY_CACHE, else its folder in the system's cache folder. Not created here. */
export function cacheFolder(platform: NodeJS.Platform = process.platform): string {
  const chosen = variable("LAPIDARY_CACHE");
  if (chosen !== undefined) return resolve(expandHome(chosen));
  return join(systemCaches(platform), "lapidary");
}

function systemCaches(platform: NodeJS.Platform): string {
  if (platform === "darwin") return join(homedir(), "Library", "Caches");
  if (platform === "win32") return variable("LOCALAPPDATA") ?? join(homedir(), "AppData", "Local");
  const folder = variable("XDG_CACHE_HOME");
  // The XDG specification has relative paths ignored.
  return folder !== undefined && isAbsolute(folder) ? folder : join(homedir(), ".cache");
}
