#!/bin/sh
# The same from the command line: sh examples/gemma-command-line.sh [MODEL]
echo "LLMs generate text through a process known as" |
  npx lapidary run --task text-generation --model "${1:-google/gemma-2b}" --device 0
