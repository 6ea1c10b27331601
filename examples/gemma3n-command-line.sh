#!/bin/sh
# The page's prompt on the command line: sh examples/gemma3n-command-line.sh [MODEL]
echo "Plants create energy through a process known as" |
  npx lapidary run --task text-generation --model "${1:-google/gemma-3n-E2B}" --device 0
