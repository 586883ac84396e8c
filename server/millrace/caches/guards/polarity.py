"""Negation and opposites: small words that reverse an answer."""

import re

from msgspec import Struct

from millrace.caches.guards.vocabulary import is_common
from millrace.caches.guards.words import CLAUSAL, lemmas, listed

NEGATIONS = listed(
    "not no never none without neither nor nobody nothing nowhere hardly barely scarcely unless lack lacking lacks non"
) | {CLAUSAL}
# A verb that reverses what follows it: "what to avoid eating" is not "what to eat".
REVERSING = listed("avoid prevent stop quit refuse fail cease lack exclude except skip")
PARTLY = listed("partly partially incompletely almost nearly halfway")  # what is partly so is not so
_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "mis", "de", "anti", "a")
# Prefixes of which either may begin the same word: introvert, extrovert.
_RIVAL_PREFIXES = [
    frozenset(pair.split("-"))
    for pair in [
        "intro-extro",
        "endo-exo",
        "macro-micro",
        "pre-post",
        "pre-suf",
        "hyper-hypo",
        "over-under",
        "in-ex",
        "im-ex",
        "inter-intra",
        "en-de",
        "con-dis",
        "as-des",
        "ac-de",
        "pro-anti",
        "homo-hetero",
        "mono-poly",
        "mono-multi",
        "sub-super",
        "up-down",
        "on-off",
        "for-back",
        "fore-back",
        "ab-ad",
        "maxi-mini",
        "uni-multi",
        "bi-uni",
        "tri-bi",
        "mono-di",
        "anti-pro",
        "inner-outer",
        "out-in",
        "ante-post",
        "infra-ultra",
        "ana-cata",
    ]
]
# Each side of an equals sign is a set; any word of one is an opposite of any of the other.
_OPPOSED = """
accept approve = reject deny decline | allow permit enable = block deny forbid prevent disable prohibit ban
always = never | ancient = modern | before = after | above over = below under beneath
add insert = remove delete subtract | advantage benefit pro = disadvantage drawback con risk harm downside
alive = dead | arrive arrival = depart departure leave | ask question = answer | asleep = awake | attack = defend
begin start open launch = end stop finish close quit | best better good great = worst worse bad poor evil
big large huge = small little tiny | black = white | borrow = lend | bottom = top | bright light = dark dim
build construct create make = destroy demolish delete break | buy purchase = sell rent | calm = angry
cause = prevent cure stop | cheap affordable = expensive costly | clean = dirty | close shut = open
cold cool chilly freezing = hot warm heated boiling | come = go
connect join attach pair = disconnect leave detach unpair | civil = criminal | day = night | deep = shallow
deposit = withdraw | die = live | download = upload | dry = wet | early = late
easy simple = hard difficult complex | empty = full | enter entry entrance = exit | even = odd | export = import
pass succeed = fail | failure = success | false = true | correct right = wrong incorrect false | far = near close
fast quick = slow | fat thick = thin | gain = lose | female woman girl = male man boy | mother = father
wife = husband | daughter = son | sister = brother | first = last | follow = lead unfollow | forget = remember
freeze = thaw melt boil | fresh = stale rotten | friend = enemy | front = back | give = take get receive
grow = shrink | guilty = innocent | happy = sad | hard = soft | hate = love like | healthy well = sick ill
heavy = light | hide = show | high tall = low short | hire employ = fire dismiss | horizontal = vertical
include = exclude | increase raise boost maximize = decrease reduce lower minimize cut | inhale = exhale
inner inside internal indoor = outer outside external outdoor | join merge combine = leave split divide separate
junior = senior | kill = save | left = right | legal = illegal | less fewer = more | least fewest = most
lock = unlock | long = short | loose = tight | win = lose | lose misplace = find | loud noisy = quiet silent
major = minor | maximum = minimum | many = few | marry = divorce | natural organic = artificial synthetic
negative = positive | new = old used | north = south east west | south = east west | east = west | off = on
offline = online | old = young new | optional = required mandatory | past = future | adult = child pediatric kid
permanent = temporary | plus = minus times | poor = rich | poverty = wealth | presence present = absence absent
private = public | profit = loss | protect = expose | pull = push | rare = common | raw = cooked | receive = send
release = hold | rise = fall set sink | rough = smooth | safe = dangerous unsafe | same = different
save = delete spend waste | sender = receiver recipient | sharp = dull blunt | shrink = expand grow | sink = float
sit = stand | strong = weak | sunrise = sunset | sweet = sour bitter salty | taxable = exempt | teach = learn
together = apart | up = down | upgrade = downgrade | upper = lower | urban = rural | victory = defeat
wide broad = narrow | wild = tame domestic | with = without | buyer customer = seller
employer boss = employee worker | landlord = tenant | teacher = student pupil | doctor = patient | input = output
encode = decode | encrypt = decrypt | compress zip = extract unzip decompress | ascending = descending
fixed = variable | gross = net | solid = liquid gas | liquid = gas | speed accelerate = slow decelerate
hardware = software | theory = practice | demand = supply | debit = credit | virtual = physical | active = passive
single = married double multiple | odd = even | plural = singular | host = guest | question = answer
predator = prey | parent = child | uncle = aunt | king = queen | prince = princess | bride = groom
morning = evening night afternoon | breakfast = lunch dinner | lunch = dinner | summer = winter | spring = autumn
yesterday = tomorrow | absolute = relative | concave = convex | domestic = foreign international | formal = informal
hot = cold | implicit = explicit | local = global remote | manual = automatic | minimize = maximize
objective = subjective | optimist = pessimist | qualitative = quantitative | static = dynamic | abstract = concrete
asset = liability | attract = repel | ceiling = floor | comedy = tragedy | create = delete | dawn = dusk
discount = surcharge | earn = spend | exhale = inhale | expire = renew | fiction = nonfiction | forward = backward
import = export | inflate = deflate | innocent = guilty | lend = borrow | mute = unmute | numerator = denominator
praise = criticize | prefix = suffix | push = pull | read = write | rear = front | reward = punishment
rows row = column columns | stack = queue | sunny = rainy cloudy | thaw = freeze | tighten = loosen
client = server | uncover = cover | vowel = consonant | bull = bear | acid = base alkaline | anode = cathode
vein = artery | lossy = lossless | serial = parallel | singular = plural | wholesale = retail
brief short concise = detail detailed depth thorough long length | funny humorous = serious | layman plain = scientific
part partial = full whole entire complete | beginner novice = expert professional advanced | simple = technical
supervised = unsupervised | symmetric = asymmetric | inbound incoming = outbound outgoing
"""


def _sets(table: str) -> frozenset[frozenset[str]]:
    pairs = (pair.split("=") for pair in re.split(r"[|\n]", table.strip()))
    return frozenset(frozenset({a, b}) for one, other in pairs for a in one.split() for b in other.split() if a != b)


_OPPOSITES = _sets(_OPPOSED)
_INVERSION = 2  # content words of a subject that may stand between a verb and its `not`
_SUPERLATIVES = listed("best worst most least first last")
_NO_SUPERLATIVES = listed(
    "forest interest harvest request contest protest honest modest invest conquest manifest arrest"
)
_SUFFIXES = (("ful", "less"), ("er", "ee"))
_SHORTEST = 3  # letters of a stem that prefixes may begin


class Negation(Struct, frozen=True):
    """One negation in a text."""

    after: int  # content words before it
    clausal: bool  # it negates a clause, wherever it stands in it: "isn't the fan on", "is the fan not on"
    word: str  # the negation, "not" for every clausal one


def opposite(left: str, right: str) -> bool:
    """Whether two words are opposites, by the table or by a prefix, as in `able` and `unable`."""
    return any(
        frozenset((one, other)) in _OPPOSITES or _prefixed(one, other) or _prefixed(other, one) or _rivals(one, other)
        for one in _forms(left)
        for other in _forms(right)
    )


def _forms(word: str) -> frozenset[str]:
    """Return the lemmas of a word, its first degree, and its adjective: `warm` of `warmest` and of `warmly`."""
    forms = lemmas(word)
    if word.endswith("ly"):
        stem = word.removesuffix("ly")
        forms |= {stem, stem.removesuffix("al"), f"{stem}l", f"{stem}le", f"{stem.removesuffix('i')}y"}
    return forms | stems(word) if word.endswith(("er", "est")) else forms


def superlative(word: str) -> bool:
    """Whether a word is the highest degree of another: `biggest`, but not `guest`."""
    if not word.endswith("st") or word in _NO_SUPERLATIVES:
        return False
    return word in _SUPERLATIVES or any(map(is_common, stems(word)))


def stems(word: str) -> frozenset[str]:
    """Return what a word may be the second or third degree of: `big`, `bigg` of `bigger`."""
    ending = next((end for end in ("est", "er") if word.endswith(end)), "")
    stem = word.removesuffix(ending)
    if not ending or len(stem) < _SHORTEST:
        return frozenset()
    found = {
        stem,
        f"{stem}e",
        f"{stem[:-1]}y" if stem[-1] == "i" else stem,
        stem[:-1] if stem[-1] == stem[-2] else stem,
    }
    return frozenset(found)


def negated(word: str) -> bool:
    """Whether a word is itself a negation."""
    return word in NEGATIONS


def differ(left: tuple[Negation, ...], right: tuple[Negation, ...], *, clauses: bool) -> bool:
    """Whether the negations of two texts differ, in number, kind or place.

    `Why doesn't the fan spin` has its negation a word earlier than `why is the fan not spinning`, so the place of one
    that negates a clause may differ by a few words. It may not with several clauses or negations: there another place
    negates another word.
    """
    if len(left) != len(right):
        return True
    tolerance = 0 if clauses or len(left) > 1 else _INVERSION
    return any(
        a.clausal != b.clausal or a.word != b.word or abs(a.after - b.after) > tolerance * a.clausal
        for a, b in zip(left, right, strict=True)
    )


def _prefixed(word: str, other: str) -> bool:
    """Whether `other` is `word` with a negating prefix, or with -less for -ful."""
    if len(word) >= _SHORTEST and any(other == prefix + word for prefix in _PREFIXES):
        return True
    return any(word.endswith(one) and other == word.removesuffix(one) + two for one, two in _SUFFIXES)


def _rivals(left: str, right: str) -> bool:
    """Whether two words are the same after two prefixes that exclude each other."""
    if left[-_SHORTEST:] != right[-_SHORTEST:]:
        return False
    return any(
        left.startswith(one) and right.startswith(two) and left[len(one) :] == right[len(two) :]
        for one, two in _RIVAL_ORDERED
    )


_RIVAL_ORDERED = [(one, two) for pair in _RIVAL_PREFIXES for one in pair for two in pair - {one}]
