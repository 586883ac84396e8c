# Get JSON after a schema out of `llm`, as a stream and whole.
set -eu
llm -m "$1" --schema "name, age int" "Invent a dog" >dog
llm -m "$1" --schema "name, age int" --no-stream "Invent a cat" >cat
for animal in dog cat; do
    python -c 'import json, sys; json.load(sys.stdin)["age"] + 1' <$animal
done
