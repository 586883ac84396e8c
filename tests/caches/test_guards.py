"""The guards as a whole: what has no hard objection, and what has one. None of these rows is in a data file."""

import re
import time

import pytest

from millrace.caches.guards import Judgement, Question, judge

PASS = [
    ("How do I reverse the charges?", "how can i reverse the charges"),
    ("What's the best way to descale a kettle?", "How do I descale a kettle?"),
    ("Could you please tell me how to tie a bow tie?", "How do I tie a bow tie?"),
    ("I'd like to know why leaves turn red", "Why do leaves turn red?"),
    ("How tall is the Eiffel Tower?", "What is the height of the Eiffel Tower?"),
    ("How much does a passport cost?", "What's the price of a passport?"),
    ("How long does it take to fly to Mars?", "how much time does it take to fly to mars"),
    ("How many people live in Peru?", "What is the population of Peru?"),
    ("Who painted Guernica?", "Who is the painter of Guernica?"),
    ("In what year did the war end?", "When did the war end?"),
    ("Where was Mozart born?", "In which city was Mozart born?"),
    ("When was Ada Lovelace born?", "What is Ada Lovelace's date of birth?"),
    ("How do I get to Boston from New York?", "How do I get from New York to Boston?"),
    ("How do I sort a dictionary in Python?", "How do I sort a Python dictionary?"),
    ("What is the colour of the sun?", "What is the color of the sun?"),
    ("How do I get a wine stain out of a shirt?", "How can I remove a wine stain from a shirt?"),
    ("What is 5 km in miles?", "What is five kilometres in miles?"),
    ("How much is 1,000 grams?", "How much is 1000 grams?"),
    ("What's the difference between jam and marmalade?", "How do jam and marmalade differ?"),
    ("Which is bigger, Sun or Moon?", "Which is bigger, Moon or Sun?"),
    ("How do I turn off the alarm?", "How do I switch the alarm off?"),
    ("Why isn't the fan spinning?", "Why is the fan not spinning?"),
    ("Is it safe to eat raw oysters?", "Is eating raw oysters safe?"),
    ("Why do owls hoot?", "What is the reason owls hoot?"),
    ("Why is the sea salty?", "What makes the sea salty?"),
    ("How tall is a giraffe?", "How tall are giraffes?"),
    ("How do I sort a list in Python?", "how to sort a list using python"),
    ("Which symptoms does measles cause?", "What are the symptoms of measles?"),
    ("Wie setze ich mein Passwort zurück?", "wie setze ich mein passwort zurück"),
    ("My card is not working", "my card isn't working"),
    ("Why has my payment been declined?", "Why was my payment declined?"),
]

STOP = [
    # Numbers, units, versions, ordinals.
    ("What is 12+7?", "What is 12+8?", "numbers differ: 12 7 / 12 8"),
    ("how long is a five day visa", "how long is a ten day visa", "numbers differ: 5 / 10"),
    ("How do I install Python 3.10?", "How do I install Python 3.1?", "numbers differ"),
    ("Who was the first pope?", "Who was the second pope?", "numbers differ"),
    ("What is 12 - 7?", "What is 7 - 12?", "order of words differs"),
    ("Is 30 mg of zinc safe?", "Is 30 g of zinc safe?", "milligram / gram"),
    ("What can I buy for $50?", "What can I buy for €50?", "dollar / euro"),
    ("What is 7 plus 5?", "What is 7 times 5?", "opposites|differ"),
    ("What is 7 + 5?", "What is 7 * 5?", "differ"),
    # Negation, opposites, prefixes.
    ("Which birds can fly?", "Which birds can't fly?", "negations differ"),
    ("which birds fly", "which birds dont fly", "negations differ"),
    ("How do I cook with salt?", "How do I cook without salt?", "negations differ"),
    ("What is good for dogs but not for cats?", "What is not good for dogs but for cats?", "negations differ"),
    ("How do I enable pop-ups?", "How do I disable pop-ups?", "opposites: enable / disable"),
    ("Is gambling legal in Utah?", "Is gambling illegal in Utah?", "opposites: legal / illegal"),
    ("is my cat friendly to guests or shy", "is my cat unfriendly to guests or shy", "opposites"),
    ("Who are smokers?", "Who are non-smokers?", "negations differ"),
    ("How do I turn on the heater?", "How do I turn off the heater?", "opposites"),
    ("Is the hopeful case likely?", "Is the hopeless case likely?", "opposites: hopeful / hopeless"),
    # Names, in lower case too.
    ("What is the capital of Niger?", "What is the capital of Nigeria?", "names differ: niger / nigeria"),
    ("what is the capital of niger", "what is the capital of nigeria", "may be names: niger / nigeria"),
    ("How do I clean Windows?", "How do I clean a window?", "names differ"),
    ("What does WHO do?", "Who does what?", "differ|nothing"),
    ("Is the US big?", "Is us big?", "usa"),
    # Order and roles.
    ("Is tea older than coffee?", "Is coffee older than tea?", "tea|coffee"),
    ("how do i sail from crete to malta", "how do i sail from malta to crete", "from|to"),
    ("Can a lawyer sue a judge?", "Can a judge sue a lawyer?", "order of words differs"),
    (
        "What was built in Rome and sold in Paris?",
        "What was built in Paris and sold in Rome?",
        "order of words differs",
    ),
    ("Songs by Adele", "Songs about Adele", "by adele / about adele"),
    ("Do I love you?", "Do you love me?", "I and you differ"),
    # Question words, modals, tenses, inflections.
    ("Why do birds sing?", "How do birds sing?", "question words differ: why / how"),
    ("Where should I plant garlic?", "When should I plant garlic?", "question words differ"),
    ("Should I fly to Rome?", "Can I fly to Rome?", "should or will differ|should, must or will differ"),
    ("Who is the mayor of Rome?", "Who was the mayor of Rome?", "tenses differ"),
    ("Why is my cat so bored?", "Why is my cat so boring?", "differ"),
    # Words as words, quotations, code, other languages.
    ("How do you say buy in French?", "How do you say purchase in French?", "buy / purchase"),
    ('Translate "I see you" into Welsh', 'Translate "you see I" into Welsh', "quoted or pasted text differs"),
    ("Fix: x = a if b else c", "Fix: x = b if a else c", "quoted or pasted text differs"),
    ("for (;;) { a(); }", "for (;;) { b(); }", "code"),
    ("Wie setze ich mein Passwort zurück?", "Wie setze ich meine PIN zurück?", "another language"),
    ("How do I back up photos automatically?", "How do I back up photos manually?", "opposites"),
    ("how do i publicly share an album", "how do i privately share an album", "opposites"),
    ("Explain recursion briefly", "Explain recursion in detail", "opposites"),
    ("Explain blockchain for beginners", "Explain blockchain for experts", "opposites"),
    ("iphone 12 battery life", "iphone 12 pro battery life", "one names more"),
    ("How do I reset a Pixel 6?", "How do I reset a Pixel 6a?", "numbers differ"),
    ("my card is about to expire", "my card has expired", "tenses differ"),
    ("my payment is being processed", "my payment has been processed", "tenses differ"),
    ("my flight has been cancelled", "my flight might be cancelled", "tenses differ"),
    ("Is the pool open on weekdays?", "Is the pool open on weekends?", "things of one kind"),
]


# Each line holds pairs that look alike and ask for something else.
NEAR = {
    "be, have and do": """
Does Windows have a virus / Is Windows a virus | What has caffeine / What is caffeine
Which foods have protein / Which foods are protein | Does Texas have an income tax / Is Texas an income tax
Is Scotland a country / Does Scotland have a country | Do cats have fleas / Are cats fleas
Who has the ball / Who is the ball | Does Venus have a moon / Is Venus a moon
Does Poland have a king / Is Poland a king | Who does the laundry / Who is the laundry
What has the army / What is the army | Can a robot have a soul / Can a robot be a soul
""",
    "prepositions, and none": """
How do I file taxes as a student / How do I file taxes for a student
Can I buy alcohol for a minor / Can I buy alcohol as a minor | Can I sign for my wife / Can I sign as my wife
How do I get a visa in Japan / How do I get a visa for Japan | Who fought in Vietnam / Who fought for Vietnam
What is banned in Germany / What is banned for Germany
Do I need insurance for a car / Do I need insurance in a car | How do I train at home / How do I train for home
What food is for a flight / What food is on a flight | How do I laugh at my friends / How do I laugh with my friends
How do I work on cars / How do I work in cars | Is the book in the box / Is the book on the box
How do I invest in Apple / How do I invest with Apple | Can police search my car / Can police search for my car
How do I cook my cat / How do I cook for my cat | How do I ask a lawyer / How do I ask for a lawyer
How do I pay my lawyer / How do I pay for my lawyer | How do I write a friend / How do I write for a friend
Can I fly a drone / Can I fly in a drone | Should I call a doctor / Should I call for a doctor
How do I leave the north / How do I leave for the north | How do I get the bus / How do I get on the bus
Where can I sell to farmers / Where can I sell for farmers | How do I apply for a bank / How do I apply at a bank
Can I travel with a baby / Can I travel as a baby | How do I wait on a customer / How do I wait for a customer
How do I hunt a bear / How do I hunt for a bear | Can I shoot a gun / Can I shoot at a gun
How do I prepare a doctor / How do I prepare for a doctor
""",
    "tense of the verb": """
Who owns Twitter / Who owned Twitter | Who runs Tesla / Who ran Tesla | who wins the oscars / who won the oscars
Which airlines fly to Cuba / Which airlines flew to Cuba | Which states ban abortion / Which states banned abortion
Which countries use the euro / Which countries used the euro | Who paid for Brexit / Who pays for Brexit
Which company makes Walkmans / Which company made Walkmans | What causes the inflation / What caused the inflation
Who grows coffee in Kenya / Who grew coffee in Kenya | Which companies sell asbestos / Which companies sold asbestos
Who leads the Labour Party / Who led the Labour Party | What makes cats purr / What made cats purr
Who created Miffy / Who is creating Miffy | How many people live in Rome / How many people lived in Rome
""",
    "who of whom": """
what does my cat think of me / what do i think of my cat | what does my dog see in me / what do i see in my dog
What does my boss want from me / What do I want from my boss | What do snakes eat / What snakes eat
Does a dog from Paris bite a cat / Does a dog bite a cat from Paris
How do I ask my doctor to leave / How do I ask to leave my doctor
How do I move a file from a disk to a tape / How do I move a tape from a disk to a file
How do I make my dog like me / How do I make me like my dog | Why do cats like water / Why are cats like water
""",
    "quantifiers and particles, in place": """
Do only men vote / Do men only vote | Can only cats purr / Can cats only purr
Can I only eat meat / Can only I eat meat | Are some sharks warm blooded / Are sharks warm blooded
Do some snakes have legs / Do snakes have legs | Do only dogs bark / Do dogs only bark
Do any fish fly / Do fish fly | Do few birds swim / Do a few birds swim | Can I eat just meat / Can I eat meat
Do I need my own car / Do I need my car | How do I take a day off / How do I take every day off
Why do cats not only eat meat / Why do cats only not eat meat
Why isn't every cat black / Why is every cat not black
""",
    "senses of endings, articles and numbers": """
What is a painting / What is paint | What is cooking / What is a cook
How is corn growing in Iowa / How is corn grown in Iowa
Which animals are eaten in China / Which animals are eating in China | How do I stop smoking / How do I stop smoke
Does the moon have an atmosphere / Do moons have an atmosphere | How hot is the sun / How hot are suns
How much is shipping / How much is a ship | What is dating / What is a date
How do I water plants / How do I plant in water | What is a meeting / What is a meet
Can I eat frozen fish / Can I eat freezing fish | Who is a prime minister / Who is the prime minister
What is glass / What is a glass | How do I cook chicken / How do I cook a chicken
Who found Carthage / Who founded Carthage | Does stopping smoking help / Does stopping to smoke help
""",
    "a capital inside": """
How much is a Jaguar / How much is a jaguar | What do Apple employees earn / What do apple employees earn
How do I polish shoes / How do I Polish shoes | What do Orange customers pay / What do orange customers pay
Where does Turkey come from / Where does turkey come from
""",
    "limits, units, dates": """
Is gold heavier than lead / Is gold as heavy as lead | How many cups are in a quart / How many quarts are in a cup
What happened in May 1945 / What happened in June 1945 | Can I drive before 18 / Can I drive after 18
Is the shop open until noon / Is the shop open by noon | Can I take more than 5 pills / Can I take at least 5 pills
Can I take at most 5 pills / Can I take at least 5 pills | Can I take less than 5 pills / Can I take at most 5 pills
Can I take up to 5 pills / Can I take 5 pills
""",
    "voice, clauses, modals": """
Is the dog chased by the cat / Is the dog chasing the cat | Who was hired by Google / Who was Google hired by
What is a dog that hunts foxes / What is a fox that hunts dogs
Which plants that eat flies live in bogs / Which plants that live in bogs eat flies
Must I register a drone / Should I register a drone | Must I tip in Japan / Can I tip in Japan
What is the reason to eat meat / What is the way to eat meat
How much is a glass of wine / How much is a wine glass
""",
    "words of two senses": """
What is a bug in a garden / What is an insect in a garden | How do I find a dog / How do I find out a dog
How do I type a letter / How do I sort a letter | How do I write an application / How do I write an app
""",
}


SOFT = [
    ("What is in soap?", "What is soap?", "only one says"),
    ("What is a good lawnmower?", "What is a good lawnmower for steep hills?", "only one says: nothing / steep"),
    ("how do i make soup", "how do i make vegan soup", "only one says: nothing / vegan"),
    ("Where can I buy a coat?", "Where can I rent a coat?", "opposites"),
    ("What is big data?", "What is large data?", "words differ that may mean the same"),
    ("What is a healthy fast food?", "What is a healthy quick food?", "words differ that may mean the same"),
]


def judged(a: str, b: str, *, fully: bool = True) -> Judgement:
    """Judge two texts, and see that the order makes no difference to whether there is a hard objection."""
    judgement, other = (judge(Question.read(x), Question.read(y), fully=fully) for x, y in ((a, b), (b, a)))
    assert {each.rule for each in judgement.hard} == {each.rule for each in other.hard}
    return judgement


@pytest.mark.parametrize(("a", "b"), PASS)
def test_the_same_question_has_no_hard_objection(a: str, b: str) -> None:
    """In either direction, and a text has no objection at all to itself."""
    assert judged(a, b).hard == ()
    assert judged(a, a).objections == ()


@pytest.mark.parametrize(("a", "b", "reason"), STOP)
def test_another_question_has_a_hard_objection(a: str, b: str, reason: str) -> None:
    """In either direction; the reason says what differs."""
    objections = judged(a, b).hard
    assert any(part in objection.reason for objection in objections for part in reason.split("|"))


@pytest.mark.parametrize(("a", "b", "reason"), SOFT)
def test_an_added_word_is_evidence(a: str, b: str, reason: str) -> None:
    assert any(reason in objection.reason for objection in judged(a, b).objections)


@pytest.mark.parametrize("pair", [pair for rows in NEAR.values() for pair in re.split(r"[|\n]", rows) if pair.strip()])
def test_what_looks_alike_has_an_objection(pair: str) -> None:
    """In either direction."""
    left, right = (f"{text.strip()}?" for text in pair.split(" / "))
    assert judged(left, right).objections
    assert judged(right, left).objections


def test_the_first_hard_objection_ends_it() -> None:
    a, b = Question.read("Is 5 > 3?"), Question.read("Why is 4 < 2 in Paris?")
    assert len(judge(a, b, fully=True).hard) > 1
    first = judge(a, b)
    assert (first.hard, first.soft) == (judge(a, b, fully=True).hard[:1], ())


def test_how_words_were_paired() -> None:
    """The decision reads it."""
    a = Question.read("How do I buy a red sofa in my flat?")
    b = Question.read("How can I purchase couches in my hous?")
    pairing = judge(a, b, fully=True).pairing
    assert [(a.words[each.left].text, b.words[each.right].text, each.how) for each in pairing.pairs] == [
        ("buy", "purchase", "synonym"),
        ("sofa", "couches", "synonym"),
    ]
    assert [(x.text, y.text) for x, y in pairing.replaced] == [("red", "hous")] or pairing.rest[1][0].text == "hous"


@pytest.mark.parametrize(
    "text",
    [
        "how " * 500,
        "what is the price of " * 90,
        "a" * 2000,
        "((((" * 500,
        "is it it " * 200,
        "a/" * 900,
        "- " * 900,
        "(a b c " * 300,
        '"' * 900,
    ],
)
def test_reading_takes_no_time(text: str) -> None:
    """No text of the longest length makes a pattern run away."""
    began = time.thread_time()  # whatever else the machine does
    Question.read(text)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("piece", ["\n", "A B ", "( "], ids=["lines", "names", "brackets"])
def test_time_grows_with_the_length_and_no_faster(piece: str) -> None:
    def cpu_s(length: int) -> float:
        began = time.thread_time()
        Question.read(piece * (length // len(piece)))
        return time.thread_time() - began

    assert min(cpu_s(16_000) for _ in range(2)) < 20 * min(cpu_s(2000) for _ in range(5)) + 0.02
