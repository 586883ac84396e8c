"""Everyday questions that both simulated models answer well."""

EASY_ANSWERS = {
    "Hello": "Hello! I am a simulated model: I cost nothing, and I know a few dozen answers. What is on your mind?",
    "Who are you?": "I am a simulated model. No provider is asked and nothing is billed when I answer.",
    "What is a millrace?": (
        "A millrace is the channel that leads water to a mill wheel and away again. The part before the wheel is "
        "the headrace, and the part after it is the tailrace."
    ),
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Australia?": (
        "The capital of Australia is Canberra. It was chosen in 1908 as a compromise between Sydney and Melbourne."
    ),
    "How many continents are there?": (
        "By the most common count there are seven: Africa, Antarctica, Asia, Australia, Europe, North America and "
        "South America."
    ),
    "What is the largest planet in the solar system?": (
        "Jupiter. It has more than twice the mass of all the other planets together."
    ),
    "How far away is the Moon?": (
        "On average the Moon is about 384,400 km away. Light takes about 1.3 seconds for that distance."
    ),
    "What is the speed of light?": (
        "In a vacuum, light travels at exactly 299,792,458 metres per second. It is exact because the metre is "
        "defined by it."
    ),
    "Why is the sky blue?": (
        "Sunlight is a mix of all colours, and air scatters the short blue waves far more than the long red ones. "
        "So blue light reaches your eyes from every part of the sky."
    ),
    "What is photosynthesis?": (
        "Photosynthesis is how plants, algae and some bacteria make food with light. They turn carbon dioxide and "
        "water into sugar; plants give off oxygen as they do so."
    ),
    "At what temperature does water boil?": (
        "At sea level water boils at about 100 °C (212 °F). Higher up, the pressure is lower and it boils sooner: "
        "at about 93 °C at 2,000 metres."
    ),
    "Who wrote Hamlet?": "William Shakespeare wrote Hamlet, around the year 1600.",
    "Who painted the Mona Lisa?": (
        "Leonardo da Vinci painted the Mona Lisa. He began it around 1503, and it hangs in the Louvre in Paris."
    ),
    "When did people first walk on the Moon?": (
        "In July 1969, on the Apollo 11 mission. Neil Armstrong stepped out first and Buzz Aldrin followed about "
        "twenty minutes later."
    ),
    "What is 2 + 2?": "2 + 2 = 4.",
    "What is 17 times 23?": "17 × 23 = 391. One way to see it: 17 × 20 = 340, 17 × 3 = 51, and 340 + 51 = 391.",
    "What is 15% of 80?": "15% of 80 is 12. Ten percent is 8, and half of that is 4.",
    "How many minutes are in a day?": "A day has 24 × 60 = 1,440 minutes.",
    "How do I boil an egg?": (
        "Lower the egg into boiling water. Take it out after 6 minutes for a soft yolk, or after 10 for a firm "
        "one. Then cool it under cold water, so that it stops cooking and peels well."
    ),
    "How do I undo the last Git commit?": (
        "If you have not pushed it, run `git reset --soft HEAD~1`: the commit goes, and its changes stay staged. "
        "If others may have it, run `git revert HEAD`, which adds a commit that undoes it."
    ),
    "How do I reverse a list in Python?": (
        "`items.reverse()` reverses it in place, `items[::-1]` makes a reversed copy, and `reversed(items)` "
        "iterates backwards without a copy."
    ),
    "What is a WebSocket?": (
        "A WebSocket is a connection that starts as an HTTP request and then stays open. Both sides can send "
        "messages over it at any time, which suits chats, games and streamed answers."
    ),
    "What is an API?": (
        "An API, or application programming interface, is what one program offers to others: the calls they can "
        "make, what to send, and what comes back."
    ),
    "What is a large language model?": (
        "A large language model is a neural network trained on a great deal of text to predict what comes next. "
        "From that one skill it can answer questions, translate, summarise and write code."
    ),
    "What is a token?": (
        "For a language model, a token is the piece of text it reads or writes at a time: often a short word or a "
        "part of a longer one. In English, a token is about four characters."
    ),
    "What is a cache?": (
        "A cache keeps results close at hand, so that asking again is quick and cheap. The hard part is to know "
        "when a kept result is no longer right."
    ),
    "Answer with one word: ready": "Ready.",
    "Write a Python function that reverses a text.": (
        "A slice with a negative step reverses it:\n\n```python\ndef reversed_text(text: str) -> str:\n"
        '    """Return a text backwards."""\n    return text[::-1]\n```\n\n'
        'For example, `reversed_text("wheel")` is `"leehw"`.'
    ),
    "Tell me a joke.": "There are 10 kinds of people: those who understand binary and those who don't.",
    "Write a haiku about water.": (
        "Water finds the wheel,\nthe wheel wakes the sleeping stone,\nand bread fills the house."
    ),
}
