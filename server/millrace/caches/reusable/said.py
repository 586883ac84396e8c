"""Texts that mean something only after what was said before: replies, follow-ups, pronouns without a noun."""

import re

from millrace.caches.guards import words
from millrace.caches.reusable.reading import Sentence
from millrace.caches.reusable.rule import BEFORE

NO_TOPIC = "there is no topic"

_BE = r"(?:is|are|was|were|will be|would be|am)"
_AFTER_IT = (
    r"(?:possible|impossible|safe|unsafe|legal|illegal|ok|okay|normal|bad|good|better|best|worth|true|wrong|right|fine"
    r"|healthy|unhealthy|necessary|important|easy|hard|difficult|dangerous|common|rare|cheaper|rude|allowed|required"
    r"|rain|raining|snow|snowing|takes?|costs?|means? (?:to|when|if)|feel like|like to|that|a good idea|a bad idea)"
)
# "It" that refers to what follows: "is it safe to ...", "how long does it take to ...".
_EXPLETIVE = re.compile(
    r"\bit (?:so |too |very |still |just |really |even |more |\w+ly )?(?!close|similar|next|related|equal"
    r"|due|back|compared|connected|used|able)"
    r"\w+(?: for \w+(?: \w+)?)? to\b(?! (?:the|an?|my|your)\b)|\b(?:is|was|be) it (?:just me|like"
    r"|called)\b|\bit mean (?:for|by)\b|\bit (?:an?|the) (?:\w+ ){1,3}?to\b|\bit for (?:\w+ ){1,3}?to\b"
    r"|\bmake it (?:in|through|to|as|big)\b|\b(?:how|why) (?:do|would) they (?:\w+ ){2,}|\b(?:do|would"
    r"|did) they (?:\w+ )+(?:in|for|on) \w+|\b(?:how|why) (?:do|would) they \w+ \w+$|\bmaking it\b"
    r"|\b(?:appreciate|love|like) it if\b|\bworth it\b|\bhow is it to\b|\bdoes it mean (?:that|they|i|you|he|she)\b"
    r"|\bhow \w+ is it to\b"
    r"|\bhow (?:hot|cold|warm|windy|humid|wet|dry|dark|light|sunny|rainy|noisy) (?:is|was|does|can|will) it\b"
    r"|\bwhy is it (?:\w+ )?\w+ (?:in|at|on|when|if|during)\b"
    # A title: "who wrote the song let it be".
    r"|\b(?:song|movie|film|book|album|novel|poem|series|show|called|titled|named) (?!that|which|where|when|and"
    r"|about|is|was|for|of|in|on|to|with)"
    r"(?:\w+ ){0,3}?(?:it|he|him|she|her|they|them|his)\b"
    r"|\bdo it yourself\b|\bnew to this\b|\bwould it be\b|\bif it (?:rains|snows)\b"
    rf"|(?<=\s)it (?:(?:is|was|will|would) )?(?:be )?(?:\w+ly )?{_AFTER_IT}\b|\bit's {_AFTER_IT}\b"
    r"|\bwhat does it mean (?:to|when|if)\b|\bas it (?:is|was)\b"
)
_PRONOUN = re.compile(r"\b(?:it|itself|they|them|he|him|she)\b|\b(?:its|their|theirs|his|her|hers)\b")
_POSSESSIVE = words.listed("its their theirs his her hers itself")
_SOON = 3  # content words before a pronoun, of which one is likely to be what it refers to
_CLAUSE = re.compile(r"[,;:.?!\n]|\b(?:and|but|if|when|because|so|or|while|after|before)\b")
# "That" refers back unless it opens a clause: "foods that ...", "is it true that ...".
_POINTING = rf"(?:{_BE}|does|did|do|about|of|like|with|for|to|on|in|why|how|what|after|before|all|and|than|by)"
_DEMONSTRATIVE = re.compile(
    r"\b(?:this|these)\b(?! (?:year|century|decade|ai|bot|app|assistant|chat|website|service|program"
    r"|company|bank|platform|card|account|phone|world|life)\b)(?![^.?!]*:\s*\S)|\bthose\b(?! who)"
    r"|\bthat(?=[ ]*[.?!,]|[ ]*$)"
    rf"|(?:^|\b{_POINTING} )that\b(?! (?:a|an|the|i|you|we|they|he|she|it|there|people|some|my|your)\b)"
)
_BACK = re.compile(
    r"\b(?:the|that|this|other|first|second|third|last|next|another|previous|different) ones?\b(?! (?:that"
    r"|who|which|in|of|with|for|on|at|from|to|thing)\b)"
    r"|\b(?:first|second|third|last|other) option\b|\boption [a-e\d]\b|\bone of (?:those|them|these)\b|\bnone of\b"
    r"|\bthe (?:above|below|former|latter|rest(?! of)|other two|following(?!.*:\s*\S)(?= |$))\b"
    r"|\babove\b(?= *[.?!,]| *$)"
    r"|\b(?:previous (?:answers?|questions?|messages?|replies|responses?|command|request|input)"
    r"|aforementioned|earlier (?:answer|question|message|reply)|(?:said|mentioned|asked|told you"
    r"|wrote) earlier|(?:as )?(?:i|you) (?:just )?(?:said|mentioned|suggested|wrote|gave))\b"
    r"|\byour (?:last|previous|first) (?:answer|reply|message|point|response)\b|\bsame (?:for|with|in|as before)\b"
    r"|\bour (?:conversation|chat|discussion)\b|\b(?:conversation|chat|discussion|said|talk) so far\b"
    r"|\b(?:again|once more|one more time|one more|same thing|(?<!or )something else|(?<!or )anything else"
    r"|what else|below)[ .?!]*$"
)
# A place that nobody has named: "if I go there", "restaurants around here"; not "what is there to see", "hi there".
_PLACE = re.compile(
    r"\b(?:go|going|goes|went|come|comes|coming|travel|travell?ing|visiting|move|moving|drive|driving|fly|flying|walk"
    r"|get|getting|eat|eating|stay|staying|live|living|work|working|sold|allowed|legal|weather|like|around|near|from"
    r"|to|over|up|down) (?:here|there)(?=\s*(?:[,.?!;]|$))"
)
_SENTENCE = re.compile(r"[.?!\n]|, ")
_POINTERS = words.listed(
    "it it's its itself they them their theirs he him his she her hers this these those "
    "that that's one ones option none above below "
    "former latter rest following other previous previously aforementioned "
    "earlier said mentioned suggested wrote gave your same again "
    "more else once here there thing conversation chat discussion far"
)
_REPLY = re.compile(
    r"(?:(?:oh|well|um|hmm|ai|so|and|but|i think|i guess|i would say|my answer is|the answer is|answer"
    r"|actually|please|ok|okay|sure|just) )*"
    r"(?:yes|yeah|yep|yup|ya|sure(?: thing)?|of course|certainly|absolutely|definitely|affirmative|indeed"
    r"|exactly|correct|right|true"
    r"|no|nope|nah|never|negative|not (?:really|at all|exactly|that|now|yet|sure|quite|true|right|correct)"
    r"|false|wrong|incorrect|no way"
    r"|maybe|perhaps|possibly|probably|might|(?:it )?depends|undecided|either(?: one| or| way)?|neither"
    r"|both|none|all of (?:it|them)|whatever|any"
    r"|stop|cancel|abort|quit|wait|hold on|pause|undo|never ?mind|forget (?:it|that|about it)|ignore (?:it"
    r"|that|me)|enough"
    r"|continue|go (?:on|ahead|back)|keep going|carry on|proceed|do it|next|more|again|repeat|redo|retry"
    r"|try again|start over|restart|resume|come again|pardon(?: me)?|what"
    r"|why|why not|how|how so|how come|when|where|who|which(?: one)?|really|seriously|and then|so what"
    r"|are you (?:sure|certain|serious)|says who|like what|such as|for example|in what way"
    r"|agreed|i agree|i disagree|sounds (?:good|great|right|fine)|good|great|fine|got it|i see|understood"
    r"|deal|done|ok|okay|alright"
    r"|i (?:do not|am not|don't) (?:know|think so|sure|certain|understand|get it|care)|i (?:think|guess"
    r"|hope|believe|suppose) (?:so|not)|not sure|no idea|can not say"
    r"|you (?:are|were) (?:right|wrong|incorrect|correct|mistaken)|what do you mean|what did you say"
    r"|rephrase|elaborate|explain|shorter|longer|simpler|in (?:more detail|short|other words))"
    r"(?: (?:please|thanks|thank you|it|that|this|then|now|indeed|not|so|again|for me|sir|ma'am|though"
    r"|later|to that|ai|of course|is|way|is correct|is right))*"
)
_FOLLOW_UP = re.compile(
    r"(?:sorry|pardon)?,? ?i (?:did not|didn't|could not|couldn't|can't) (?:quite )?(?:hear|catch"
    r"|understand|get|follow) (?:you|that|it|what)\b"
    r"|(?:sorry|pardon)?,? ?what (?:did|were|was it|have) you (?:just |were )?(?:say|saying|said)\b"
    r"|you (?:got|have) (?:that|it) wrong\b|(?:you're|you are|that's|thats|that is) (?:not )?(?:right"
    r"|wrong|correct|incorrect|true|false|it)\b"
    r"|(?:i'd say |i would say |i will say |i'll say )(?:yes|no|maybe|so|not)\b|(?:my|the) (?:answer"
    r"|response)\b.*\b(?:is|be) (?:yes|no|maybe|unsure)\b|(?:yes|no|maybe) is (?:my|the) (?:answer"
    r"|response)\b"
    r"|(?:i'm afraid )?i (?:can't|cannot|can not|couldn't|am unable to|'?m unable to|am not able to"
    r"|'m not able to) (?:say|tell|decide)(?: for (?:sure|certain))?(?: either way)?$|(?:both|either one"
    r"|either|it) (?:could|might) be$"
    r"|(?:what|how) about\b(?! (?:you|yourself)\b)|why not\b(?! (?:to )?\w+ \w+ \w+)|(?:make|keep) (?:it"
    r"|that|this)\b|(?:yes|yeah|yep|no|nope|nah|sure|ok|okay),? (?:please|thanks|go ahead|do|that|it|i|we"
    r"|but|and)\b"
    r"|(?:yes|yeah|no|nope),? (?!(?:how|why|what|when|where|who|which|can|is|are|do|does)\b)\w+"
    r"|(?:tell me|explain|say|give me|show me|write|tell us) (?:more|another|again)\b(?! about)|(?:shorter"
    r"|longer|more|another|continue|go on|elaborate|rephrase|repeat)\b(?! (?:loops?|until|statement|sales"
    r"|or less|than|\w+ \w+ \w+))"
    r"|(?:and|but|or|also|then|because|same)\b,? (?:in|for|on|with|at|from|to|by|if|of|about|without|after"
    r"|before|between|is|was|are|the|a|an|why|how|what|not|it|that)\b(?!(?: \w+){3})"
)
_GRAMMAR = words.listed(
    "a an the some any this that these those is are was were be been being do does "
    "did done has have had having i you we one it its my your our me "
    "myself yourself mine yours ours someone somebody anyone and or but so there here what "
    "which who whom whose whether can could may might will would shall should "
    "must ought let s please kindly thanks thank just really how why when where not to of "
    "in on for with about at by"
)


def objection(text: str, parts: list[Sentence]) -> str | None:
    """Return why a text needs what was said before it, or None."""
    said = {word for part in parts for word in part.words}
    if not said:
        return NO_TOPIC
    # "IT" in capitals is information technology, unless all is in capitals.
    named = text if text.isupper() else _TECHNOLOGY.sub("technology", text)
    plain = " ".join(named.lower().replace("’", "'").split())
    whole = plain.rstrip(" .?!,")
    if len(whole) < _SHORT and _REPLY.fullmatch(whole.replace(",", "")):
        return BEFORE
    if _FOLLOW_UP.match(plain) or (len(parts) == 1 and parts[0].mood and _FOLLOW_UP.match(parts[0].rest)):
        return BEFORE
    if not _POINTERS.isdisjoint(said) and (_BACK.search(plain) or _PLACE.search(plain) or _dangles(plain)):
        return BEFORE
    return None if said - _GRAMMAR or _ABOUT_YOU.match(plain) else NO_TOPIC


_TECHNOLOGY = re.compile(r"\bIT\b")
_ABOUT_YOU = re.compile(
    r"(?:who|what|how|where|are|do|tell me about|tell me who)\b.*\b(?:you|your|yourself)\b(?!.*\b(?:say|mean"
    r"|sure)\b)|thank|thanks"
)
_SHORT = 48  # characters; a reply is not longer


def _dangles(plain: str) -> bool:
    without = _EXPLETIVE.sub("", plain)
    pointing = _DEMONSTRATIVE.search(without)
    if pointing and not _has_noun(without[: pointing.start()], "this"):
        return True
    return any(not _has_noun(without[: found.start()], found[0]) for found in _PRONOUN.finditer(without))


def _has_noun(before: str, pronoun: str) -> bool:
    """Whether a pronoun has something to refer to: a noun in a clause before its own, or likely in its own."""
    content = [match for match in re.finditer(r"[^\W\d_]+", before) if match[0] not in _GRAMMAR]
    if not content:
        return False
    least = 1 if pronoun in _POSSESSIVE else _SOON
    clause = _SENTENCE if pronoun == "this" else _CLAUSE
    return len(content) >= least + (pronoun == "this") or clause.search(before[content[0].end() :]) is not None
