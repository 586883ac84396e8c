"""Text -> sentences without what leads up to a request: greetings, "please", "can you tell me", "I would like to"."""

import re

from msgspec import Struct

_APOSTROPHES = str.maketrans("’ʼ‘`´", "'''''")
_CONTRACTIONS = (
    (re.compile(r"\b(what|who|where|when|how|why|that|there|it|he|she|here)'s\b"), r"\1 is"),
    (re.compile(r"\bcan't\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\blet's\b"), "let us"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'d\b"), " would"),
)
_BARE = (
    (re.compile(r"\b(what|where|how|that|who|when)s\b"), r"\1 is"),
    (re.compile(r"\b(?:im|iam)\b"), "i am"),
    (re.compile(r"\bid (?=like|love)"), "i would "),
    (re.compile(r"\b(?:u|ya)\b"), "you"),
    (re.compile(r"\bwanna\b"), "want to"),
    (re.compile(r"\b(?:gotta|gonna)\b"), "have to"),
    (re.compile(r"\bcannot\b"), "can not"),
)
_SHORTENED = re.compile(r"\b(?:(?:what|where|how|that|who|when)s|im|iam|id|u|ya|wanna|gotta|gonna|cannot)\b")
_ENDS = re.compile(
    r"(?:, |\b(?:so|and|but) )(?=(?:please|can you|could you|will you|would you|(?:i )?need you to|i want you to)\b)|"
    r"[.?!;]+(?=\s|$)|[?!]+|:(?=\s)|\n+|(?<=\s)[-–—]\s+"
)
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")

# What a request may open with and that says nothing: it is cut off as often as it is found.
_LEAD = re.compile(
    r"(?:(?:please|pls|plz|kindly|(?:hey|ok|okay) google|hey|hi|hello|ok|okay|alexa|siri|computer|assistant|ai|so|um"
    r"|uh|well|now|just|and|but|also|then|actually|basically|honestly|yo|sorry(?: to bother you)?|excuse me|quick"
    r"|good (?:morning|afternoon|evening|day)|(?:quick |i have a )?question|thanks|right|go ahead and|let us|lets"
    r"|(?:be|make) sure (?:to|that)|feel free to|again)\b[ ,]*)+"
)
_YOU = r"(?:can|could|would|will|may|might) you(?: (?:please|kindly|just|possibly|maybe|quickly))*"
_I = r"(?:i|we)(?: (?:really|just|do|also|still|simply|am going to|will|would))*"
_FRAMES = (
    # The sentence asks to be told what follows.
    (
        "tell",
        re.compile(
            rf"(?:{_YOU} |(?:can|could|would) (?:someone|anyone|anybody|somebody) "
            rf"|i need you to )?(?:(?:help|tell|remind) (?:me|us)(?: to)? (?:know|understand|find out"
            rf"|figure out|see)"
            r"|tell (?:me|us)(?: about)?|let (?:me|us) know(?: about)?|inform me(?: of| about)?|find out|figure out"
            r"|explain(?: to me)?)\b,? ?"
            r"|(?:do|does|would) (?:you|anyone|anybody)(?: happen to)? know\b ?"
            rf"|{_I} (?:want|need|like|love|wish|have|must|got|am (?:needing|wanting|trying)|should)(?: to)? "
            r"(?:know|find out|learn|understand|hear)\b(?: about)? ?"
            r"|(?:need|want|like) to (?:know|find out)\b ?|i (?:was|am) (?:just )?(?:wondering|curious)(?: about)?\b ?"
            r"|wondering\b ?|any (?:idea|ideas|clue)\b ?|may i ask\b ?|is it possible to (?:know|find out)\b ?"
        ),
    ),
    # It asks the one who reads it to do what follows.
    (
        "you",
        re.compile(
            rf"{_YOU}(?: (?:help|assist) (?:me|us)(?: (?:to|with|in|by))?| be able to)?\b ?"
            rf"|{_I} (?:want|need|like|love|prefer)(?: for)? you to\b ?|would you mind\b ?|can i get you to\b ?"
            r"|(?:is it|would it be) (?:possible|ok|okay) for you to\b ?|are you able to\b ?"
            r"|you (?:need to|should|must)\b ?|how about you\b ?|(?:can you )?do me a favou?r and\b ?"
            r"|would you be (?:so )?(?:kind|good|nice)(?: enough)?(?: as)? to\b ?|be (?:so|a) (?:kind|good"
            r"|dear)(?: as to| and)\b ?|(?:if|whether) you (?:could|can|would|might)(?: please| kindly)?\b ?"
            r"|(?:i (?:would|will) (?:really )?(?:appreciate it|be (?:very |so )?(?:grateful|glad|happy|thankful)"
            r"|love it)"
            r"|it would be (?:great|nice|lovely|good|helpful)) if you (?:could|would|can)(?: please| kindly)?\b ?"
        ),
    ),
    # It says what its writer wants, or has to do.
    (
        "wish",
        re.compile(
            rf"{_I} (?:want|need|like|love|wish|have|got|must|should|am (?:trying|going|hoping|looking"
            rf"|planning|wanting|needing))"
            r"(?: (?:to|for|some))?(?: (?:help|assistance|a hand|you to))?(?: (?:to|with|in|on|for))?\b ?"
            r"|(?:help|assist) (?:me|us)(?: (?:to|with|in))?\b ?|(?:need|want|like)(?: to)?\b ?|(?:can"
            r"|could|may) (?:i|we) (?:please )?(?:get|have)\b ?"
        ),
    ),
)
# Questions of a kind that is answered in general, also where they say "my" or "I": how, why, may I, what if.
_GENERAL = re.compile(
    r"(?:if [^,]*, ?|[^,]*, ?)?(?:(?:how|where|when|what|which|who|if|whether)\b[^,]*\b(?:i|we) (?:can"
    r"|could|should|might|may|need to|have to|would|must|go about)\b|how (?:do|can|could|should|would"
    r"|might|to|does|did|come|long does it take)\b"
    r"(?! (?:i|we) (?:owe|have|look|rank|stand|score|sleep)\b)|why\b"
    r"|how long (?:should|can|do|does|will it take)\b|how (?:much|many|often|soon|far|old|early|late"
    r"|young)\b[^,]* (?:should|can|could|must|would) (?:i|we|you|one)\b"
    r"|(?:can|could|may|should|must|might|would) (?:i|we|one|my|an?|the|you)\b|(?:what|which|whom?|where"
    r"|when)\b[^,]* (?:should|can|could|would|must) (?:i|we|you|one|my|be|happen)\b"
    r"|what (?:do|would) (?:i|we) (?:have to|need|must)\b|what (?:if|to|happens?|steps?|does it mean"
    r"|is the (?:best|right|proper|correct|easiest|fastest|process|procedure|way|steps?)|makes|causes"
    r"|do (?:i|you|we) (?:do|need)|(?:is|are) (?:needed|required))\b"
    r"|where (?:do (?!i (?:live|work|sit|stand|currently|have)\b)|to)\b|who do (?:i|we)\b|when (?:do i need|to)\b"
    r"|is it (?:\w+ly )?(?:possible|ok|okay|safe|legal|illegal|normal|bad|good|better|worth|wise|rude"
    r"|wrong|healthy|dangerous|necessary|hard|easy|true|common|allowed|required|enough|a good|cheaper)\b"
    r"|is there (?:a|any|an|another|some) (?:way|ways|method|option|fee|charge|limit|minimum|maximum|age"
    r"|reason|trick|cure)\b|are there (?:any |some )?(?:ways|fees|charges|limits|restrictions|rules)\b"
    r"|am i (?:allowed|able|permitted|supposed)\b|do (?:i|we) (?:need|have to|get|really|always|pay)\b"
    r"|will i (?:need|be (?:able|charged)|get|have to)\b"
    r"|(?:ways?|steps|how|guide|instructions|tips) (?:to|for)\b|does (?:it|a|an|the|one)\b|do (?:you|they"
    r"|people) (?!have any|know any)\w+)"
)
_STATEMENT = re.compile(
    r"(?:i|we|it|he|she|someone|somebody|they|there|got(?! any\b))\b|(?:my|our|the|an?)\b.*\b(?:is|are|was|were|has"
    r"|have|had|does|did"
    r"|will|would|can|could|not|needs?|keeps?|seems?|says?|shows?|broke|got|went|\w+ed)\b"
)


class Sentence(Struct, frozen=True):
    """One sentence of a text, in lower case, without what leads up to its request."""

    rest: str
    words: tuple[str, ...]  # of all of it, in order
    mood: str  # of what led up to it: "tell", "you", "wish" or empty
    general: bool  # it asks how, why, whether one may, or what if
    statement: bool  # it neither asks nor orders


def sentences(text: str) -> list[Sentence]:
    """Return the sentences of a text that have words."""
    plain = text.lower().translate(_APOSTROPHES)
    if "'" in plain:
        for pattern, replacement in _CONTRACTIONS:
            plain = pattern.sub(replacement, plain)
    if _SHORTENED.search(plain):
        for pattern, replacement in _BARE:
            plain = pattern.sub(replacement, plain)
    return [_sentence(part) for part in _ENDS.split(plain) if part and not part.isspace()]


def _sentence(part: str) -> Sentence:
    plain = " ".join(part.split()).lstrip("\"'*([-–—>#¿¡, ")
    rest, mood = plain, ""
    for _ in range(4):
        before = rest
        lead = _LEAD.match(rest)
        if lead:
            rest = rest[lead.end() :]
        for name, frame in _FRAMES:
            found = frame.match(rest)
            if found:
                rest, mood = rest[found.end() :], mood if mood == "tell" else name
                break
        if rest == before:
            break
    general = _GENERAL.match(rest) is not None
    statement = not mood and _STATEMENT.match(rest) is not None and not general
    return Sentence(rest, tuple(_WORD.findall(plain)), mood, general, statement)
