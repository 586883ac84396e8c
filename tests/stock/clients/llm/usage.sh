# Ask `llm` one question, and see what it used and what it cost, as a stream and whole.
set -eu
for stream in --log --no-stream; do
    llm -m "$1" -u "$stream" "Say something about $1 $stream." 2>usage || { cat usage; exit 1; }
    cat usage
    grep "Token usage: .* input, .* output" usage
    # Of the Responses API `llm` keeps the counts only.
    test "$1" != millrace || grep cost_usd usage
done
