"""What kind of question a text asks: `how do I`, `what's the best way to` and `steps to` are all `?how`.

Works on tokens joined by single spaces. A question word that has been read is marked `?`, so it is not read twice.
"""

import re
from itertools import pairwise

from millrace.caches.guards.phrases import grouped, replaced
from millrace.caches.guards.words import listed

_ME = r"(?: (?:me|us))?"
_I = r"(?:i|you|we|one|someone|somebody|anyone|a person|they|people)"
_THE = r"(?: (?:the|a|an|some|any|my|your))?"
_IS = r"(?: (?:is|are))?"  # not the past: "what was the price" is another question
_WH = r"how|why|what|when|where|who|whom|whose|which"
_GOOD = r"(?: (?:best|good|right|correct|proper|recommended))?"
_WAYS = r"(?:way|ways|method|methods|procedure|process|steps?|instructions?)"
DOING = "to-do"  # marks an activity: "to eat" in "is it safe to eat", "eating" in "is eating safe"
ABLE, ALLOWED = "is-able", "is-allowed"  # after `?if`: "is it possible to", "is it allowed to"
MAKES = "make-do"  # after `?why`: "what makes x y" is "why is x y" and "why does x y"
_SAID = r"(?:safe|unsafe|legal|illegal|bad|good|healthy|unhealthy|dangerous|normal|rude)"
_MADE = r"(?:author|writer|painter|inventor|composer|discoverer|founder|creator)"
_TELL = r"(?:tell|explain|show|describe|teach|give|list|name|state|provide|define|outline)"
_HELLO = (
    r"(?:hi|hello|hey|ok|okay|so|well|please|um|uh|hmm|(?:a )?(?:quick )?question|thanks"
    r"|good (?:morning|afternoon|evening|day)|greetings|dear \S+)(?: (?:there|all|everyone|guys))?"
)
_PREAMBLE = (
    r"(?:i am )?sorry (?:to bother(?: you)?|for (?:bothering|the (?:trouble|dumb question)))|excuse me"
    r"|i have (?:a|one) (?:\S+ )?question(?: [,.])?|i (?:just )?(?:was wondering|wanted to (?:ask|know))(?= [,.])"
    r"|honestly|basically|actually|anyway|out of curiosity|just (?:curious|wondering)|i am curious"
)
_MATHS = (
    r"(?:derivative|integral|value|sum|product|roots?|solutions?|area|volume|limit|mean|median|average|factors|inverse"
    r"|perimeter)"
)

# Applied in order: politeness first, then whole frames, then single words.
_POLITE_PATTERNS = (
    (rf"^(?:(?:{_HELLO})(?: [,.]| -)* )+", ""),
    (r"[ ,.]+(?:please|thanks|thank you|cheers|thx)(?: (?:in advance|so much|a lot))?(?=[ ,.]*$)", ""),
    (r"[ ,.]+(?:for me|if (?:possible|you can))(?=[ ,.]*$)", ""),
    (rf"^(?:{_PREAMBLE})[ ,.]*(?: but)?[ ,.]*", ""),
    (
        rf"^(?:(?:can|could|would|will) (?:you|anyone|anybody|someone|somebody)|would you mind"
        rf"|i (?:need|want|would like) you to)(?: (?:please|kindly|possibly))?"
        rf"(?= (?:help|advise|summarize|translate|write|convert|generate|create|compare|{_TELL})\b) ",
        "",
    ),
    (r"^please ", ""),
    (
        r"^(?:may|can|could) i (?:please )?(?:have|get) (?=(?:\S+ ){1,2}(?:recipe|list|summary|example|explanation"
        r"|definition|overview)s?\b)",
        "give me ",
    ),
    (
        rf"^(?:(?:would|do) you mind|(?:would|could) you be so kind as to) (?:telling|explaining to|explaining"
        rf"|showing|tell|explain to|explain|show){_ME} (?=(?:{_WH})\b)",
        "",
    ),
    (rf"^(?:do|does|would) (?:you|anyone|anybody|someone) happen to know (?:about )?(?=(?:{_WH})\b)", ""),
    (
        rf"^(?:i (?:would|will) (?:be (?:very |so )?(?:grateful|glad|thankful|happy)|appreciate it|love it)"
        rf"|it would be (?:great|nice|helpful))"
        rf" if (?:you|someone|anyone) (?:could|would|can) (?:please |kindly )?{_TELL}{_ME} (?=(?:{_WH})\b)",
        "",
    ),
    (rf"^(?:may|can|could) i (?:please )?(?:ask|know) (?:you )?(?=(?:{_WH}|if|whether)\b)", ""),
    (rf"^(?:{_TELL}|advise)(?: to)?{_ME}(?: know)?(?: (?:about|exactly|on))? (?=(?:{_WH})\b)", ""),
    (r"^(?:do|does) (?:you|anyone|anybody|someone) know (?:if|whether) ", "?if "),
    (
        rf"^(?:(?:tell|let|show){_ME}(?: know)?|i (?:am |was )?(?:just )?wonder(?:ing)?"
        r"|i (?:want|would like|need) to know|not sure) (?:if|whether) ",
        "?if ",
    ),
    (
        rf"^(?:(?:do|does) (?:you|anyone|anybody|someone) know"
        rf"|i (?:want|would like|need|am trying) to (?:know|learn|find out|figure out|understand)"
        rf"|i (?:am |was )?(?:just )?(?:wonder(?:ing)?|curious)|any ideas?|i do n[o]?t know|i am not sure) (?:about )?"
        rf"(?=(?:{_WH})\b)",
        "",
    ),
    (rf"^(?:help|guide|teach|show){_ME}(?: to)? (?={_TELL}\b)", ""),
)
_POLITE = grouped(_POLITE_PATTERNS)
_FRAMES = grouped(
    (
        (rf"^(?:please )?(?:help|assist){_ME}(?: to| with| in)? ", "?want "),
        (r"^(?:i (?:want|need|would like|am trying|have|wish) to|i am looking (?:to|for)) ", "?want "),
        (rf"^{_TELL}{_ME}(?: about)?{_THE}{_GOOD} {_WAYS}(?: to| for| of) ", "?how "),
        (rf"^(?:is|are) there(?: (?:a|an|any|some|other|another))*{_GOOD} {_WAYS}"
         rf"(?: to| for| of|(?: that| in which)? {_I} (?:can|could))(?: {_I} to)?", "?way"),
        # How to do it.
        (rf"how (?:do|does|can|could|should|would|might|may|must|shall) {_I}(?: (?:go about|best|be able to|manage to"
         r"|able to|possibly))?", "?how"),
        (r"how to(?: (?:best|go about))?", "?how"),
        (rf"(?:what|which) (?:is|are){_THE}(?: (?:best|most|very|safe|good|effective|easy|different|possible|other))*"
         rf"(?: ((?:\w+est|cheap|\w+ive)))?(?: and \w+)? (?:ways?|methods?|tips|tricks|hacks|strategies|steps)"
         rf"(?: (?:to|for|of|on)(?! (?:how|what)\b)|(?: in which| that)? {_I} (?:can|could|should|do))(?: {_I} to)?",
         r"?how \1"),
        (rf"(?:what{_IS}|which{_IS}){_THE}{_GOOD} {_WAYS}(?: (?:to|for|of)|(?: in which| that)?"
         rf"(?: (?:can|could|should|do))? {_I}(?: (?:can|could|should))?)", "?how"),
        (rf"what (?:do|should|can|must) {_I} (?:(?:need|have) to )?do (?:in order )?to", "?how"),
        (rf"^(?:the )?(?:(?:best|good|right|correct) )?{_WAYS} (?:to|for|of)", "?how"),
        (rf"what (?:do|should|can|must) {_I} (?:(?:need|have) to )?do (?=if|when|in case)", "?what do "),
        # Why.
        (rf"what{_IS}{_THE} (?:main )?reasons?(?: (?:that|why|for|behind))?|how come|for what reasons?", "?why"),
        (r"what (?:makes|make|causes|cause)", f"?why {MAKES}"),
        (r"what is (?:the )?cause of|what are (?:the )?causes of", f"?why {MAKES}"),
        (r"what (?:made|caused)", "?why did"),
        # When, where, who.
        (r"(?:(?:in|on|at|during) )?(?:what|which) (year|date|day|time|month)"
         r"(?= (?:did|was|were|is|are|do|does|will|can)\b)", r"?\1"),
        (r"(?:what|when) (?:is|was) (.+) 's (?:birth date|date of birth|birthdate|birthday)", r"?born \1"),
        (rf"(?:what|when) (?:is|was){_THE} (?:birth date|date of birth|birthdate|birthday) of", "?born"),
        (r"\?(?:date|year|day) was (.+) born", r"?born \1"),
        (r"when (?:is|was|were) (.+) born", r"?born \1"),
        (r"(?:in|at) (?:what|which) (place|location|country|city|state|town)", r"?\1"),
        (rf"what{_IS}{_THE} location of", "?where"),
        (r"(?:what|which) (?:person|people)", "?who"),
        (rf"where (?:can|could|do|should|would) {_I}", "?where"),
        (rf"who (?:is|was|are|were) the ({_MADE}s?) of", r"?who \1"),
        (r"(?:what|which) symptoms (?:do|does) (.+) cause(?=[ .,]*$)", r"?what are symptoms of \1"),
        # How much, how many, how long.
        (r"how much (?:do|does|will|would) (.+) cost", r"?price \1"),
        (r"how much (?:do|does) (.+) weigh", r"?weight \1"),
        (r"how much (?!do\b|does\b|is\b|are\b)(\S+(?: \S+){0,5}) costs?(?=[ .,]*$)", r"?price \1"),
        (r"how much (?!do\b|does\b|is\b|are\b)(\S+(?: \S+){0,5}) weighs?(?=[ .,]*$)", r"?weight \1"),
        (r"what (?:do|does|will|would) (.+) cost", r"?price \1"),
        (rf"what{_IS}{_THE} (?:price|cost)s? (?:of|for)|how (?:expensive|costly){_IS}", "?price"),
        (r"how much (?:is|are)(?! #)", "?price~"),
        (r"how many (?:people|inhabitants|residents|persons)(?: are)?(?: there)?(?: (?:live|living|reside))? in",
         "?what is population of"),
        (r"how (?:large|big|high|great) is the population of", "?what is population of"),
        (rf"what{_IS}{_THE} (?:number|count) of|what number of", "?many"),
        (r"how many", "?many"),
        (r"how much time|for how long|how long(?= (?:do|does|did|will|would|should|can|must|to|it|boil|cook|bake"
        r"|roast|store|keep|freeze|soak|charge|wait)\b)", "?long"),
        (rf"what{_IS}{_THE} (?:duration|time needed|time required)(?: of| to| for)", "?long"),
        (rf"\?long (?:do|does|will|would)(?: it)?(?: (?:take|takes))?(?: {_I}| me| us)?(?: (?:need|have))?(?: to)?"
         r"(?: takes?)?", "?long does"),
        (r"how much(?= \w)(?! (?:is|are|was|do|does|did|can|could|will|would|should|it|time)\b)", "?much"),
        (r"how often|how frequently|how many times (?:a|per|each|every)(?= (?:day|week|month|year)\b)", "?often"),
        (r"how many times|(?:\?many|(?:the )?number of) times", "?times"),
        *(
            row
            for noun, adjective, loose in (
                ("height", "tall", "high"), ("length", "long", ""), ("depth", "deep", ""), ("width", "wide|broad", ""),
                ("weight", "heavy", ""), ("age", "old", ""), ("size", "big|large", ""), ("distance", "far", ""),
                ("speed", "fast|quick", ""), ("temperature", "", "hot|warm"),
            )
            for row in (
                (rf"what{_IS}{_THE} {noun} (?:of|between|from|to)|how (?:{adjective or '[.]'}) (?:is|are)", f"?{noun}"),
                # Asked in another sentence: "do you know how tall it is".
                (rf"how (?:{adjective or '[.]'}) (?!is\b|are\b)(\S+(?: \S+){{0,5}}) (?:is|are)(?=[ .,]*$"
                rf"| from\b)", rf"?{noun} \1"),
                (rf"how (?:{loose or '[.]'}) (?:is|are)", f"?{noun}~"),  # a pepper may be hot, and prices high
            )
        ),
        # "How far is it from here" is "what is the distance between it and here".
        (r"(?<=\?distance )(\S+(?: \S+){0,3}) (?:from|to) (?=\S+(?: \S+){0,3}(?: [.,])*$)", r"\1 and "),
        # Differences.
        (rf"(?:what{_IS}|{_TELL}{_ME}|how){_THE}(?: (?:main|key|exact))? (?:differences?|distinction) between",
         "?what differ between"),
        (r"how (?:do|does) (.+) differ", r"?what differ between \1"),
        (r"how (?:is|are) (.+) different", r"?what differ between \1"),
        (r"(?<=differ between )(\S+) from", r"\1 and"),
        (r"what (is|are|was|were) (.+?) like(?= (?:in|on|at|during|to)\b|[ .,]*$)", r"?how \1 \2"),
        # Function words that are content here: "what is in it", "what does it do".
        (r"(what|who) (is|are|was|were) (?:in|on|at|with|for|inside)", r"?\1 \2 located"),
        (r"(?<=\S )do(?=[ .,]*$)", "perform"),
        (rf"what is{_THE} (?:function|purpose|role|job) of (.+?)(?=[ .,]*$)", r"?what does \1 perform"),
        (rf"(?:what|when) is the (?:best|right|ideal) time(?: of (?:the )?year)?(?: for {_I})? to", "?when should i"),
        (r"when is the (best|right|ideal) time", r"?what is the \1 time"),
        (r"(?:do you know|are there|is there|can (?:you|anyone) (?:suggest|recommend)(?: me)?) (?:any|some|a)"
         r"(?= (?:good|best)\b)", "?what are"),
        # Whether.
        (rf"^(?:is|are) it possible (?:for {_I} )?to(?: {_I})?|^(?:is|am|are) {_I} able to", f"?if {ABLE}"),
        (rf"^(?:is|am|are) {_I} (?:allowed|permitted) to|^is it (?:allowed|permitted|ok|okay)(?: for {_I})? to",
         f"?if {ALLOWED}"),
        (rf"^(?:do|does) {_I} need(?= an?\b)", "?if required"),
        (rf"^(?:do|does) {_I} (?:need|have) to|^must {_I}", "?if must"),
        (r"^is (?:it )?(an? .+) (?:required|needed|necessary|mandatory)(?: to| for)?", r"?if required \1 to"),
        (rf"^is it (?:necessary|required|mandatory|needed)(?: for {_I})? to", "?if must"),
        (rf"^(?:can|could|may|might) {_I}", "?if can"),
        (r"^(?:is|are|was|were|do|does|did|has|have|had|can|could|may|might|will|would|shall|should|must|am)\b",
         r"?if \g<0>"),
        (rf"\?if (?:is|are) (?!it\b)(.+) ({_SAID}) to (\w+)(?=[ .,]*$)", rf"?if is \2 {DOING} \3 \1"),
        # What.
        (rf"^{_TELL}{_ME} about|^(?:explain|describe|outline){_ME}|^(?:define)(?: me)?(?! (?:an?|the)\b)"
         rf"|^(?:tell|give|list|name|state|provide)(?: (?:me|us))? (?=the\b)"
         rf"|^(?:tell|give|show) (?:me|us) (?=(?:the|an?|some|examples)\b)|^(?:suggest|recommend){_ME} (?=some\b)"
         rf"|^(?:find|calculate|compute|evaluate) (?=the {_MATHS}\b)", "?what is "),
        (r"(?:what|which) city(?= is the capital\b)", "?what"),
        (rf"\?if is it ({_SAID})(?: for {_I})? to", rf"?if is \1 {DOING}"),
        (rf"\?if is (\w+ing) (.+) ({_SAID})(?=[ .,]*$)", rf"?if is \3 {DOING} \1 \2"),
        (r"(?:what|which)(?: exactly)?", "?what"),
        (r"whom?|whose", "?who"),
        (r"^when(?= (?:is|are|was|were|do|does|did|will|can|should|could|would|has|have)\b)", "?when"),
        (r"^(how|why|where)|(?<= )(how|why|where)", r"?\1\2"),
    )
)  # fmt: skip

_MODALS = {
    "can": "can",
    "could": "can",
    ABLE: "able",
    ALLOWED: "allowed",
    "may": "allowed",
    "might": "perhaps",
    "allowed": "allowed",
    "permitted": "allowed",
    "should": "should",
    "ought": "should",
    "must": "must",
    "shall": "will",
    "will": "will",
    "would": "would",
}
NEED, WANT = "need", "wish"
_WANTS = re.compile(r"\b(?:do|does|did) (?:\w+ ){1,3}(?:want|wish) to\b")
_NEEDS = re.compile(
    r"\b(?:(?:do|does|did) (?:(?!if|when|that|because)\w+ ){1,4}(?:have|need)|who (?:has|needs)"
    r"|(?:is|are|am) (?:\w+ ){0,3}(?:required|obliged|obligated)) to (?!do with\b)\w"
)
_WANTED = frozenset({"have", "has", "need", "needs", "required", "obliged", "obligated", "want", "wish"})
_FREE = frozenset({"can", "able", "allowed", "perhaps"})
_SOFTLY_EQUAL = frozenset({frozenset({"can", "able"}), frozenset({"will", "would"})})
_PAST = frozenset({"was", "were", "did", "had"})
_PERFECT = frozenset({"has", "have", "had"})  # only at the beginning of a question
_SOON = re.compile(r"\b(?:is|am|are) (?:about|going|due) to\b")
_DONE = re.compile(r"\b(?:has|have) (?:(?:nt|not|just|already|now|been) )*(?:been |\w+ed\b)")
_PRESENT = frozenset({"is", "are", "am", "do", "does"})


def without_politeness(text: str) -> str:
    """Remove greetings, thanks and `can you tell me`, which no answer depends on."""
    return replaced(_POLITE, text)


def read(text: str) -> str:
    """Replace the frame of a question by one marked word: `?how` for `what is the best way to`."""
    return replaced(_FRAMES, text)


def kinds(tokens: list[str]) -> tuple[str, ...]:
    """Return the question words in order: how, why, what, when, if (yes or no) and so on."""
    return tuple(token[1:] for token in tokens if token.startswith("?"))


def modals(tokens: list[str], asked: list[str]) -> frozenset[str]:
    """Return the modal verbs, one name for each meaning."""
    found = frozenset(_MODALS[token] for token in tokens if token in _MODALS)
    if found or _WANTED.isdisjoint(asked):
        return found
    text = " ".join(asked)
    return frozenset({NEED} if _NEEDS.search(text) else {WANT} if _WANTS.search(text) else ())


def modals_differ(left: frozenset[str], right: frozenset[str]) -> bool | None:
    """Return True if two texts have modal verbs that exclude each other, False if they may mean the same, else None."""
    if left == right or left & right:
        return None
    if WANT in left | right:  # "do I want to" is neither "do I need to" nor "can I"
        return True if left and right else None
    if NEED in left | right:  # "what do I have to bring" may be "what should I bring", but is not "what can I bring"
        return True if _FREE & (left | right) else None
    if not (left and right):
        return "allowed" in left | right
    return not any(frozenset({a, b}) in _SOFTLY_EQUAL for a in left for b in right)


def tense(tokens: list[str]) -> str:
    """Return past, future or present if an auxiliary verb shows it, else an empty string."""
    if _PAST & set(tokens) or (tokens[:1] == ["?if"] and _PERFECT & set(tokens[1:2])):
        return "past"
    might = "might" in tokens and not any(token.startswith("?") for token in tokens)
    if "will" in tokens or might or _SOON.search(" ".join(tokens)):
        return "future"
    if tokens[:1] != ["?if"] and _DONE.search(" ".join(tokens)):
        return "past"
    return "present" if _PRESENT & set(tokens) or MAKES in tokens else ""


# A specific question word agrees with the open one, `year` with `when`; two specific ones do not agree.
_OPEN = {
    "when": frozenset({"year", "date", "day", "time", "month"}),
    "where": frozenset({"place", "location", "country", "city", "state", "town"}),
}


_ALIKE = frozenset(
    frozenset(pair.split())
    for pair in ("how way", "if way", "how want", "way want", "what give", "how what", "how if", "if what")
)
_HOW_TO = frozenset({"how", "way", "want"})  # what a command or a few keywords may stand for


def kinds_differ(left: str, right: str) -> bool | None:
    """Return True if two question words ask for different things, False if they may ask for the same, else None."""
    if left == right or right in _OPEN.get(left, ()) or left in _OPEN.get(right, ()):
        return None
    if frozenset({left, right}) in _ALIKE or left.rstrip("~") == right.rstrip("~"):
        return False
    if left in _NO_KIND or right in _NO_KIND:
        return "command" in {left, right} and not {left, right} & _HOW_TO and not {left, right} <= _NO_KIND
    return True


_NO_KIND = frozenset({"command", "keywords", "statement"})  # shapes of a text without a question word


def persons(tokens: list[str]) -> tuple[str, ...]:
    """Return who speaks of whom, in order: `i`, `you` and their forms as subject or object, `my`, `your`."""
    return tuple(
        _PERSONS[token]
        for before, token in pairwise(("", *tokens))
        if token in _PERSONS
        and not (token in {"me", "us"} and before in _TO_ME)
        and not (before == "thank" and _PERSONS[token] == "2")
    )


def taught(plain: tuple[str, ...]) -> int:
    """Return 1 if a text begins with an order to tell or teach me, -1 if it asks whether I do it to you, else 0."""
    if plain[:1] and plain[0] in _TO_ME and plain[1:2] in {("me",), ("us",)}:
        return 1
    modal, asker, verb, asked = (*plain[:4], "", "", "", "")[:4]
    return -1 if modal in _MODALS and asker in {"i", "we"} and verb in _TO_ME and asked == "you" else 0


_TO_ME = listed("for to tell give show help let teach send explain remind")
_PERSONS = (
    dict.fromkeys(("i", "we"), "1")
    | {"me": "1o", "us": "1o"}
    | {"you": "2"}
    | dict.fromkeys(("my", "our", "mine", "ours"), "1s")
    | dict.fromkeys(("your", "yours"), "2s")
)


def persons_differ(left: tuple[str, ...], right: tuple[str, ...], *, of_business: bool) -> bool | None:
    """Return True if two texts speak of different persons, False if they may speak of anybody, else None.

    "How do you make tea" is "how do I make tea". "How do you charge customers" is not: the one asked does it.
    """
    mine, yours = ({person[0] for person in side} for side in (left, right))
    if left == right or not (mine and yours):
        return None
    if mine == yours:
        return len(mine) > 1
    if len(mine) == len(yours) == 1:
        both_own = all(any(person.endswith("s") for person in side) for side in (left, right))
        subjects = {person for side in (left, right) for person in side if not person.endswith("s")}
        return of_business or (both_own and len(subjects) <= 1)
    return True


# What a company does, and whom or what it does it to: "can you refund an order" asks the company.
BUSINESS = frozenset(
    [
        "refund",
        "charge",
        "ship",
        "deliver",
        "offer",
        "sell",
        "accept",
        "support",
        "store",
        "handle",
        "process",
        "protect",
        "share",
        "collect",
        "hire",
        "recruit",
        "bill",
        "invoice",
        "guarantee",
        "repair",
        "serve",
        "stock",
        "sponsor",
        "customer",
        "client",
        "user",
        "visitor",
        "order",
        "payment",
        "password",
        "data",
        "information",
        "account",
        "employee",
        "subscription",
        "policy",
        "advice",
        "refund",
        "delivery",
        "shipping",
        "warranty",
        "discount",
        "card",
        "product",
        "service",
        "complaint",
    ]
)
