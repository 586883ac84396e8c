# Ask `llm` one question, as a stream and whole; the argument names the model.
set -eu
llm -m "$1" "Why is the sky blue?" >answer
grep blue answer
llm -m "$1" --no-stream "What is the capital of France?" >answer
grep Paris answer
