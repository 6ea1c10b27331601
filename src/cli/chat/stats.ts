import type { ChatStats } from "../../generation/chat-reply.ts";

/** The figures of an answer for people. */
export function formatStats(stats: ChatStats): string {
  const { prompt_tokens, cached_tokens, new_tokens, context_length } = stats;
  const speed = (value: number | null): string => (value === null ? "unknown" : `${value.toFixed(1)} tok/s`);
  const first = stats.time_to_first_token;
  return [
    `first token   ${first === null ? "none came" : `${first.toFixed(2)} s after the question`}`,
    `prefill       ${speed(stats.prefill)} (${prompt_tokens - cached_tokens} of ${prompt_tokens} tokens, ${cached_tokens} were in the cache)`,
    `decode        ${speed(stats.decode)} (${new_tokens} tokens)`,
    `context       ${prompt_tokens + new_tokens} of ${context_length} tokens`,
    `cache         ${(stats.cache_bytes / 1e6).toFixed(1)} MB`,
  ].join("\n");
}

/** What a reader should know of how an answer ended, if anything. */
export function endingOf(stats: ChatStats): string | undefined {
  if (stats.finish_reason === "length")
    return `cut at ${stats.new_tokens} tokens (max_new_tokens, or --max-new-tokens at the start, allows more)`;
  if (stats.finish_reason === "context")
    return `cut: the context of ${stats.context_length} tokens is full (/trim lets the oldest exchanges go)`;
  return undefined;
}
