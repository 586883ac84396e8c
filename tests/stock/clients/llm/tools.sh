# Let a model call a function with `llm`, and answer with its result, as a stream and whole.
set -eu
functions='
def get_weather(city: str) -> str:
    "Get the current weather of a city."
    return "21 degrees, clear"
'
question="What is the weather in Paris? [tool=get_weather]"
for stream in --usage --no-stream; do
    llm -m "$1" "$stream" --td --functions "$functions" "$question" >answer 2>calls || { cat calls; exit 1; }
    cat answer calls
    grep "get_weather" calls
    grep "21 degrees, clear" calls
    grep "[a-z]" answer
done
