"""What kind of question a text asks: `how do I`, `what's the best way to` and `steps to` are all `?how`.

Works on tokens joined by single spaces. A question word that has been read is marked `?`, so it is not read twice.
"""

import re

_ME = r"(?: (?:me|us))?"
_I = r"(?:i|you|we|one|someone|somebody|anyone|a person)"
_THE = r"(?: (?:the|a|an|some|any|my|your))?"
_IS = r"(?: (?:is|are))?"  # not the past: "what was the price" is another question
_WH = r"how|why|what|when|where|who|whom|whose|which"
_GOOD = r"(?: (?:best|good|right|correct|proper|recommended))?"
_WAYS = r"(?:way|ways|method|methods|procedure|process|steps?|instructions?)"
DOING = "to-do"  # marks an activity: "to eat" in "is it safe to eat", "eating" in "is eating safe"
MAKES = "make-do"  # after `?why`: "what makes x y" is "why is x y" and "why does x y"
_SAID = r"(?:safe|unsafe|legal|illegal|bad|good|healthy|unhealthy|dangerous|normal|rude)"
_MADE = r"(?:author|writer|painter|inventor|composer|discoverer|founder|creator)"
_TELL = r"(?:tell|explain|show|describe|teach|give|list|name|state|provide|define|outline|find|share)"

# Applied in order: politeness first, then whole frames, then single words.
_SPACES = re.compile(r" +")
_FRAMES = tuple(
    (re.compile(rf"(?<!\S)(?:{pattern})(?:(?!\S)|(?<=\s))"), replacement)
    for pattern, replacement in (
        (r"^(?:(?:hi|hello|hey|ok|okay|so|well|please|(?:quick )?question|thanks)(?: there)?(?: [,.])* )+", ""),
        (r"[ ,.]+(?:please|thanks|thank you)(?: in advance)?(?=[ ,.]*$)", ""),
        (rf"^(?:(?:can|could|would|will) you|would you mind|i (?:need|want|would like) you to)"
         rf"(?: (?:please|kindly|possibly))?(?= (?:help|{_TELL})\b) ", ""),
        (rf"^{_TELL}(?: to)?{_ME}(?: know)?(?: (?:about|exactly))? (?=(?:{_WH})\b)", ""),
        (r"^(?:do|does) (?:you|anyone|anybody|someone) know (?:if|whether) ", "?if "),
        (rf"^(?:(?:tell|let|show){_ME}(?: know)?|i (?:am |was )?wonder(?:ing)?|i want to know) (?:if|whether) ",
         "?if "),
        (rf"^(?:(?:do|does) (?:you|anyone|anybody|someone) know|i (?:want|would like|need) to (?:know|learn|find out)"
         rf"|i (?:am |was )?(?:wonder(?:ing)?|curious)|any ideas?|i do not know|i am not sure) (?:about )?"
         rf"(?=(?:{_WH})\b)", ""),
        (rf"^(?:help|guide|teach|show){_ME}(?: to)? (?={_TELL}\b)", ""),
        (rf"^(?:please )?(?:help|assist){_ME}(?: to| with| in)? ", "?want "),
        (r"^(?:i (?:want|need|would like|am trying|have|wish) to|i am looking to) ", "?want "),
        (rf"^{_TELL}{_ME}(?: about)?{_THE}{_GOOD} {_WAYS}(?: to| for| of) ", "?how "),
        # How to do it.
        (rf"how (?:do|does|can|could|should|would|might|may|must|shall) {_I}(?: (?:go about|best|be able to|manage to"
         r"|able to|possibly))?", "?how"),
        (r"how to(?: (?:best|go about))?", "?how"),
        (rf"(?:what{_IS}|is there|are there|which{_IS}){_THE}{_GOOD} {_WAYS}(?: (?:to|for|of)|(?: in which| that)?"
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
        (r"what (?:do|does|will|would) (.+) cost", r"?price \1"),
        (rf"what{_IS}{_THE} (?:price|cost)s? (?:of|for)|how (?:expensive|costly){_IS}", "?price"),
        (r"how much (?:is|are)(?! #)", "?price"),
        (r"how many (?:people|inhabitants|residents|persons)(?: are)?(?: there)?(?: (?:live|living|reside))? in",
         "?what is population of"),
        (r"how (?:large|big|high|great) is the population of", "?what is population of"),
        (rf"what{_IS}{_THE} (?:number|count) of|what number of", "?many"),
        (r"how many", "?many"),
        (r"how much time|for how long|how long(?= (?:do|does|did|will|would|should|can|must|to|it)\b)", "?long"),
        (rf"what{_IS}{_THE} (?:duration|time needed|time required)(?: of| to| for)", "?long"),
        (rf"\?long (?:do|does|will|would)(?: it)?(?: (?:take|takes))?(?: {_I}| me| us)?(?: (?:need|have))?(?: to)?"
         r"(?: takes?)?", "?long does"),
        (r"how often|how frequently|how many times", "?often"),
        *(
            (rf"what{_IS}{_THE} {noun} (?:of|between|from|to)|how (?:{adjective}) (?:is|are)", f"?{noun}")
            for noun, adjective in (
                ("height", "tall|high"), ("length", "long"), ("depth", "deep"), ("width", "wide|broad"),
                ("weight", "heavy"), ("age", "old"), ("size", "big|large"), ("distance", "far"),
                ("speed", "fast|quick"), ("temperature", "hot|warm"),
            )
        ),
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
        (r"when is the (best|right|ideal) time", r"?what is the \1 time"),
        # Whether.
        (rf"^(?:is|are|am) (?:it|there|{_I}) (?:possible|{_THE} way) (?:for {_I} )?to(?: {_I})?", "?if can"),
        (rf"^(?:is|am|are) {_I} (?:able|allowed|permitted) to", "?if can"),
        (rf"^is it (?:allowed|permitted|ok|okay)(?: for {_I})? to", "?if can"),
        (rf"^(?:do|does) {_I} need(?= an?\b)", "?if required"),
        (rf"^(?:do|does) {_I} (?:need|have) to|^must {_I}", "?if must"),
        (r"^is (?:it )?(an? .+) (?:required|needed|necessary|mandatory)(?: to| for)?", r"?if required \1 to"),
        (rf"^is it (?:necessary|required|mandatory|needed)(?: for {_I})? to", "?if must"),
        (rf"^(?:can|could|may|might) {_I}", "?if can"),
        (r"^(?:is|are|was|were|do|does|did|has|have|had|can|could|may|might|will|would|shall|should|must|am)\b",
         r"?if \g<0>"),
        # What.
        (rf"^{_TELL}{_ME} about|^(?:explain|describe|define|outline){_ME}|^{_TELL}{_ME} (?=the\b)", "?what is "),
        (rf"^{_TELL}{_ME}", "?give"),  # "name a dog" is not "what is a dog"
        (r"(?:what|which) city(?= is the capital\b)", "?what"),
        (rf"\?if is it ({_SAID})(?: for {_I})? to", rf"?if is \1 {DOING}"),
        (rf"\?if is (\w+ing) (.+) ({_SAID})(?=[ .,]*$)", rf"?if is \3 {DOING} \1 \2"),
        (r"(?:what|which)(?: exactly)?", "?what"),
        (r"whom?|whose", "?who"),
        (r"^when(?= (?:is|are|was|were|do|does|did|will|can|should|could|would|has|have)\b)", "?when"),
        (r"^(how|why|where)|(?<= )(how|why|where)", r"?\1\2"),
    )
)  # fmt: skip

_ABLE, _ALLOWED = "able", "allowed"
_MODALS = {
    "can": {_ABLE, _ALLOWED},
    "could": {_ABLE, _ALLOWED},
    "may": {_ALLOWED},
    "might": {"perhaps"},
    "allowed": {_ALLOWED},
    "should": {"should"},
    "ought": {"should"},
    "must": {"must"},
    "will": {"will"},
    "would": {"would"},
}
_PAST = frozenset({"was", "were", "did", "had"})
_PERFECT = frozenset({"has", "have", "had"})  # only at the beginning of a question
_PRESENT = frozenset({"is", "are", "am", "do", "does"})


def read(text: str) -> str:
    """Replace the frame of a question by one marked word: `?how` for `what is the best way to`."""
    is_tidy = False
    for pattern, replacement in _FRAMES:
        text, found = pattern.subn(replacement, text)
        if found or not is_tidy:
            text, is_tidy = _SPACES.sub(" ", text).strip(), True
    return text


def kinds(tokens: list[str]) -> tuple[str, ...]:
    """Return the question words in order: how, why, what, when, if (yes or no) and so on."""
    return tuple(token[1:] for token in tokens if token.startswith("?"))


def modals(tokens: list[str]) -> frozenset[str]:
    """Return the possible meanings of the modal verbs: `can` is able or allowed."""
    return frozenset().union(*(_MODALS.get(token, set()) for token in tokens))


def tense(tokens: list[str]) -> str:
    """Return past or present if an auxiliary verb shows it, else an empty string."""
    if _PAST & set(tokens) or (tokens[:1] == ["?if"] and _PERFECT & set(tokens[1:2])):
        return "past"
    return "present" if _PRESENT & set(tokens) else ""


# A specific question word agrees with the open one, `year` with `when`; two specific ones do not agree.
_OPEN = {
    "when": frozenset({"year", "date", "day", "time", "month"}),
    "where": frozenset({"place", "location", "country", "city", "state", "town"}),
}


def kinds_agree(left: str, right: str) -> bool:
    """Whether two question words may ask for the same."""
    return left == right or right in _OPEN.get(left, ()) or left in _OPEN.get(right, ())


def owners(tokens: list[str]) -> str:
    """Return "my" or "your" if only one of the two occurs, else an empty string."""
    mine, yours = bool({"my", "our"} & set(tokens)), "your" in tokens
    return "" if mine == yours else ("my" if mine else "your")


def persons(tokens: list[str]) -> tuple[str, ...]:
    """Return the order of I and you if both occur: `do I love you` is not `do you love me`."""
    found = tuple("1" if token in {"i", "me"} else "2" for token in tokens if token in {"i", "me", "you"})
    return found if len(set(found)) > 1 else ()
