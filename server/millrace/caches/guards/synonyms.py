"""Words and phrases that may mean the same in a question, chosen by hand.

The words of a group in `_SAME` have one meaning, or share all that they have: one for another is no objection. Any
other pair of synonyms is a soft one, since a dentist is a doctor and no physician. Groups are not transitive: `make`
may stand for `produce` and for `cook`, but `cook` not for `produce`.
"""

import re
from functools import lru_cache

from millrace.caches.guards.phrases import grouped, replaced
from millrace.caches.guards.words import CLAUSAL, NAME, lemmas, spelled

_SAME = """
automobile car | photo photograph | sofa couch | fridge refrigerator | diaper nappy | aubergine eggplant | film movie
courgette zucchini | tv television telly | bike bicycle | motorbike motorcycle | lorry truck
cellphone smartphone mobile | petrol gasoline | influenza flu | airplane aeroplane | trousers pants
teen teenager | buy purchase | kid child | attorney lawyer | quickly rapidly fast
fastest quickest | biggest largest | maximum max | minimum min | cheap inexpensive
expensive costly pricey | famous renowned | mandatory compulsory obligatory
forbidden prohibited banned | yearly annual | frequently often | delete erase
drawback disadvantage downside | defrost thaw | reheat rewarm | approximately roughly | rubbish garbage trash
cop police policeman | enrolment enrollment | signup registration | login signin | logout signout
reimbursement refund | lawful legal | unlawful illegal | while whilst | colour color | webpage page
"""
_GROUPS = """
buy purchase | begin start commence | finish complete end | fix repair mend | problem issue | trouble problem issue
illness sickness disease | kid child | teen teenager | car automobile | photo picture photograph | picture image
movie film | doctor physician | attorney lawyer | big large | small little | fast quick rapid | quickly fast rapidly
fastest quickest | create make | build create | build construct | make produce | generate create produce
manufacture make produce | make prepare cook | delete remove erase | eliminate remove | change modify alter
edit modify | get obtain | get receive | acquire obtain | earn make | improve better enhance | increase raise boost
reduce decrease lower | lessen reduce | quit stop | prevent avoid | help assist | help aid | assistance help
need require | necessary needed required | mandatory compulsory obligatory required | allow permit let
allowed permitted | forbidden prohibited banned | answer reply respond | response reply answer | pick choose select
choice selection | show display | hide conceal | find locate | misplace lose | talk speak | chat talk | discuss talk
cheap inexpensive | affordable cheap | expensive costly pricey | rich wealthy | famous renowned
smart intelligent clever | happy glad | unhappy sad | angry mad | afraid scared | hard difficult tough
difficulty trouble | easy simple | easily simply | easiest simplest | important crucial essential vital
different distinct | differ difference different | similar alike | similarity similar | identical same
career profession | salary wage pay | company firm | business company | employee worker | employer boss
petrol gasoline | autumn fall | trash garbage rubbish | sofa couch | fridge refrigerator | stove cooker | diaper nappy
eggplant aubergine | zucchini courgette | tv television | bike bicycle | motorbike motorcycle | truck lorry
mobile cellphone smartphone | phone telephone | phone mobile | website site | webpage page | pc computer
vaccine vaccination | vaccinate vaccination | flu influenza | belly tummy stomach | abdomen belly | baby infant
elderly old | author write writer | inventor invent | discoverer discover | founder founded | painter paint
composer compose | creator create | developer develop development | die death | born birth | pregnant pregnancy
reason cause | result outcome | result consequence | effect impact | affect impact influence | method way technique
procedure process | purpose aim | example instance | summary summarize | explanation explain | describe description
description explain | define definition | install installation | cancel cancellation | cancel terminate
subscribe subscription | unsubscribe cancel | refund reimburse reimbursement | pay payment
registration enrolment enrollment | enrol enroll | registration enrolment enrollment signup
verify verification confirm | confirm confirmation | login signin | logout signout | located location | renew renewal
replace replacement | connect connection | restore recover | recover retrieve | restoration recovery restore recover
enable activate | disable deactivate | configure setup | configuration setup | translate translation | wash cleanse
grow cultivate | adopt adoption | teach instruct | educate teach | education schooling | teacher instructor
practice practise | exercise workout | maximum max | minimum min | biggest largest | smallest tiniest | daily everyday
yearly annual annually | advantage benefit | disadvantage drawback downside | pros advantage
cons disadvantage drawback | feature characteristic | danger risk hazard | dangerous unsafe hazardous risky
harmful damaging | dangerous harmful | safe harmless | healthy wholesome | toxic poisonous | poison toxic
remedy cure | treat treatment | therapy treatment | treatment remedy | nap doze | weird strange | rule regulation
law legislation | legal lawful | illegal unlawful | population inhabitants | while when during | if when
while whilst | also too | about regarding concerning | approximately roughly | happen occur | occur occurrence
exist existence | continue proceed | keep maintain | maintain maintenance | supermarket grocery | restaurant eatery
drink beverage | alcohol liquor | tasty delicious | component element | amount quantity | calculate compute
compute determine | determine calculate | measure measurement | convert conversion | change convert
transform convert | price cost | fare price | speed velocity | distance far | height tall high | length long
width wide | depth deep | weight weigh heavy | age old | size big large | smell odor scent | stink smell | loud noisy
silent quiet | rotate spin | walk stroll | travel journey trip | departure depart leave | arrival arrive
reach arrive | reservation booking | luggage baggage | schedule timetable | folder directory | slow sluggish
lag delay | delay postpone | use utilize | utilize employ | usage use | useful helpful | useless pointless
try attempt | check examine | inspect examine | observe watch | understand comprehend | remember recall
memorize remember | like enjoy | hate detest dislike | prefer favor | favorite preferred | suggest recommend
recommendation suggestion recommend suggest | advise advice recommend | guide tutorial | beginner novice
expert specialist | common usual | usually normally typically | normal typical usual | rare uncommon
unusual strange uncommon | often frequently | sometimes occasionally | always constantly | forever always
temporary temporarily | instantly immediately | immediately straightaway | soon shortly | entire whole | correct right
correctly properly right | proper correct | wrong incorrect | false untrue | police cops | fire blaze | trousers pants
sweater jumper pullover | shoes footwear | garment clothing | stain spot | dirt grime | rug carpet | glue adhesive
thaw defrost | reheat rewarm | airplane aeroplane | sick ill unwell | fix solve resolve | country nation | wet damp
infect infection | allergic allergy | uninstall remove | delete erase | mobile handset
"""

_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december|spring|summer|autumn|winter"
)
_PHRASES = grouped(
    (
        (r"log(?:ging|ged|s)? (?:in to|into|in|on to|onto|on)|sign(?:ing|ed|s)? (?:in to|into)", "login to"),
        (
            rf"sign(?:ing|ed|s)? in(?= {NAME}?(?:to|with|on|at|from|as|through|via|by|without|if|when|the|my|your|a"
            r"|an|and|or|page|button|screen|form|problem|issue|error)\b|(?: [.,])*$)",
            "login to",
        ),
        (r"login to (?:to|into)", "login to"),
        (r"log(?:ging|ged|s)? (?:out|off)|sign(?:ing|ed|s)? out", "logout"),
        (r"sign(?:ing|ed|s)? up|create an account", "signup"),
        (r"(?:switch|turn)(?:ed|ing)? ((?:the|a|an|my|your) (?:\S+ ){1,2})(on|off)", r"turn \2 \1"),
        (r"(?:switch|turn)(?:ed|ing)? on", "enable"),
        (r"(?:switch|turn)(?:ed|ing)? off", "disable"),
        (r"set(?:ting|s)? up", "setup"),
        (r"back(?:ing|ed|s)? up|mak(?:e|ing) (?:a |the )?(?:backup|back up)s?(?: of)?", "backup"),
        (r"get(?:ting)? rid of", "remove"),
        (r"keep(?:ing)? ((?:the |a |an |my |your )?(?:\S+ ){1,2})(?=from \w+ing\b)", r"stop \1"),
        (r"(?:get|take)(?:ting|ing)? ((?:the |a |an |my |your )?(?:\S+ ){1,3})(?:out of|off)", r"remove \1from"),
        (r"(?:get|getting|become|becoming) better (?:at|in)", "improve"),
        (r"(?:get|getting) in(?:to)? (?:touch|contact) with", "contact"),
        (r"pass(?:ed|es|ing)? away", "die"),
        (r"find(?:ing)? out", "discover"),
        (r"tak(?:e|ing) (?:good )?care of", "care for"),
        (r"(?:lots|plenty|a lot|loads) of", "many"),
        (r"(?:(?:am|is|are|was|be) )?(?:unable|not able) to", f"can {CLAUSAL}"),
        (r"(?:why )?or (?:why )?not?(?= [.]|$)", ""),
        (r"(?:be )?able to", "can"),
        (r"(?<=times |twice ) ?a (day|week|month|year)", r"per \1"),
        (r"at (?:the )?most", "maximum"),
        (r"at (?:the )?least", "minimum"),
        (r"(?:more|greater|higher) than(?= #)", "over"),
        (r"(?:less|fewer|lower) than(?= #)", "under"),
        (r"well known", "famous"),
        (r"(an|the|our|your|my) it (?=[a-z])", r"\1 information-technology "),
        (r"more quickly", "faster"),
        (r"most quickly", "fastest"),
        (r"capital city", "capital"),
        (rf"during (?={NAME}?(?:{_MONTHS})\b)", "in "),
        (r"(?:mobile|cell) phone|smart phone", "mobile"),
        (r"web (site|page)", r"web\1"),
        (r"(?:customer|client) (?:support|service|care)", "customer support"),
        (r"post code|zip code|postal code", "postcode"),
        (r"(?:because|as a result) of", "because"),
        (r"(?:with|by) (?:the )?(?:help|means|use) of|by using|using", "with"),
        (r"in order to|so as to", "to"),
        (r"such as", "like"),
        (r"((?:convert|turn|transform|change)\w* (?:\S+ ){1,6})into", r"\1to"),
        # "The app's language" is "the language of the app".
        (r"((?:the|an?|my|your) \S+|_\S+(?: _\S+){0,7}) 's (date of birth|birth date|\w+)", r"the \2 of \1"),
        (r"prior to", "before"),
        (r"in spite of", "despite"),
        (r"instead of|rather than", "instead"),
        (rf"{NAME}?united {NAME}?states(?: of {NAME}?america)?|{NAME}usa?|usa", f"{NAME}usa"),
        (rf"#(\d)\. ({NAME}?world {NAME}?war)", r"\2 #\1"),
        (rf"{NAME}?ww (?=#)", f"{NAME}world {NAME}war "),
        (rf"{NAME}?united {NAME}?kingdom|{NAME}uk|uk", f"{NAME}uk"),
    )
)


def _indexed(groups: str) -> dict[str, frozenset[int]]:
    index: dict[str, frozenset[int]] = {}
    for number, group in enumerate(re.split(r"[|\n]", groups.strip())):
        for word in group.split():
            for spelling in {word, spelled(word)}:
                index[spelling] = index.get(spelling, frozenset()) | {number}
    return index


_NONE = frozenset[int]()
_ONE_SENSE, _ALL = _indexed(_SAME), _indexed(f"{_SAME.strip()}\n{_GROUPS.strip()}")


@lru_cache(maxsize=2048)
def meanings(word: str) -> tuple[frozenset[int], frozenset[int]]:
    """Return the groups of one meaning, and all groups, of a word and its lemmas."""
    forms = lemmas(word)
    return _groups(_ONE_SENSE, forms), _groups(_ALL, forms)


def _groups(index: dict[str, frozenset[int]], forms: frozenset[str]) -> frozenset[int]:
    found = [index[form] for form in forms if form in index]
    return found[0] if len(found) == 1 else _NONE.union(*found) if found else _NONE  # most words have none


def one_word(text: str) -> str:
    """Replace phrases of the same meaning by one word; `text` is tokens joined by single spaces."""
    return replaced(_PHRASES, text)
