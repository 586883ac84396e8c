"""The rules as a table: what objects to serving the answer of one question for another.

A *hard* objection is never overruled. A *soft* one is evidence for the decision. The reason is what users read; the
words of both sides follow it. The examples are tested one by one: of `objects` the rule must object to each pair, of
`agrees` to none.
"""

from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from millrace.caches.guards import checks
from millrace.caches.guards.checks import Said
from millrace.caches.guards.pairing import Pairing
from millrace.caches.guards.question import Question

Example = tuple[str, str]


class Kind(StrEnum):
    """Whether the decision may overrule an objection."""

    HARD = "hard"
    SOFT = "soft"


class TextRule(Struct, frozen=True):
    """A hard rule that needs no pairing of words, and so comes first."""

    name: str
    reason: str
    check: Callable[[Question, Question], Said | None]
    objects: tuple[Example, ...]
    agrees: tuple[Example, ...]
    kind: Kind = Kind.HARD


class WordRule(Struct, frozen=True):
    """A rule on the words that two texts share, and on those that they do not."""

    name: str
    kind: Kind
    reason: str
    check: Callable[[Question, Question, Pairing], Said | None]
    objects: tuple[Example, ...]
    agrees: tuple[Example, ...]


Rule = TextRule | WordRule

TEXT_RULES = (
    TextRule(
        "language",
        "the wording differs, in another language than English",
        checks.language,
        objects=(
            ("Wie alt ist der Papst?", "Wie groß ist der Papst?"),
            ("¿Cuántos años tiene?", "¿Cuántos anos tiene?"),
        ),
        agrees=(("Wie alt ist der Papst?", "wie alt ist der papst"), ("How old is he?", "How tall is he?")),
    ),
    TextRule(
        "code",
        "the code differs",
        checks.code,
        objects=(("if (a == b) { f(); }", "if (a == c) { f(); }"),),
        agrees=(("if (a == b) { f(); }", "if (a == b) { f(); }"),),
    ),
    TextRule(
        "topic",
        "there is nothing to compare",
        checks.nothing_to_compare,
        objects=(("What is it?", "Who are you?"),),
        agrees=(("What is rain?", "What is snow?"),),
    ),
    TextRule(
        "signs",
        "signs differ",
        checks.signs,
        objects=(
            ("What is √(9 + 7)?", "What is √9 + 7?"),
            ("What does 😂 mean?", "What does 😢 mean?"),
            ("Is x² even?", "Is x2 even?"),
        ),
        agrees=(("Is tap-water safe?", "Is tap water safe"), ("Hello - what is rain?", "Hello, what is rain?!")),
    ),
    TextRule(
        "indentation",
        "the indentation of lines differs",
        checks.indentation,
        objects=(("Fix the list\n- a\n  - b", "Fix the list\n- a\n- b"),),
        agrees=(("Fix the list\n- a\n- b", "Fix the list\n- a\n- b"),),
    ),
    TextRule(
        "case",
        "letter case differs in what may be code",
        checks.letter_case,
        objects=(("What does grep -R do?", "What does grep -r do?"), ("How fast is 5 Mbps?", "How fast is 5 MBps?")),
        agrees=(("What is JavaScript?", "what is javascript"), ("HOW OLD IS ROME", "how old is Rome")),
    ),
    TextRule(
        "identifier",
        "identifiers, paths or addresses differ",
        checks.identifier,
        objects=(
            ("What does np.sum do?", "What does np.cumsum do?"),
            ("Read http://a.example/x", "Read http://a.example/y"),
        ),
        agrees=(("What does np.sum do?", "what does np.sum do"),),
    ),
    TextRule(
        "quoted",
        "quoted or pasted text differs",
        checks.quoted,
        objects=(('Say "cat" in Welsh', 'Say "dog" in Welsh'), ("Sort the list: d, e, f", "Sort the list: d, f, e")),
        agrees=(('What does "NATO" mean?', "What does NATO mean?"), ("Quick question: what is rain?", "what is rain")),
    ),
    TextRule(
        "number",
        "numbers differ",
        checks.number,
        objects=(("Is 14 prime?", "Is 41 prime?"), ("What is .5 in percent?", "What is 5 in percent?")),
        agrees=(
            ("How long is five miles?", "How long is 5 miles?"),
            ("Who won the Second World War?", "Who won World War II?"),
        ),
    ),
    TextRule(
        "unit",
        "units differ",
        checks.unit,
        objects=(("Is 5 mg of zinc safe?", "Is 5 g of zinc safe?"),),
        agrees=(("Is 5 kg heavy?", "Is 5 kilograms heavy?"),),
    ),
    TextRule(
        "negation",
        "negations differ",
        checks.negation,
        objects=(("Which birds fly?", "Which birds do not fly?"), ("Is not smoking hard?", "Is smoking not hard?")),
        agrees=(("Why isn't the fan on?", "Why is the fan not on?"),),
    ),
    TextRule(
        "question",
        "question words differ",
        checks.question_class,
        objects=(("Why do owls hoot?", "When do owls hoot?"), ("Define a class in Java", "What is a class in Java?")),
        agrees=(
            ("How do I tie a tie?", "What's the best way to tie a tie?"),
            ("reset iphone", "How do I reset an iPhone?"),
        ),
    ),
    TextRule(
        "modality",
        "can, may, should, must or will differ",
        checks.modality,
        objects=(("Should I fly?", "Must I fly?"), ("Is it possible to park here?", "Is it allowed to park here?")),
        agrees=(("Can I freeze cheese?", "Is it possible to freeze cheese?"),),
    ),
    TextRule(
        "person",
        "I and you differ",
        checks.person,
        objects=(("Can you refund an order?", "Can I refund an order?"), ("Do I love you?", "Do you love me?")),
        agrees=(("How do you make tea?", "How do I make tea?"),),
    ),
    TextRule(
        "tense",
        "tenses differ",
        checks.tense,
        objects=(("Who is the mayor of Rome?", "Who was the mayor of Rome?"),),
        agrees=(("Why did Rome fall?", "Explain why Rome fell"),),
    ),
    TextRule(
        "be or have",
        "be and have differ",
        checks.be_or_have,
        objects=(("Is Windows a virus?", "Does Windows have a virus?"),),
        agrees=(("Has the train left?", "Did the train leave?"),),
    ),
    TextRule(
        "quantifier",
        "all, some, few or only differ",
        checks.quantifier,
        objects=(("Do all birds fly?", "Do some birds fly?"),),
        agrees=(("Do birds fly?", "Do birds fly"),),
    ),
    TextRule(
        "conjunction",
        "and, or differ",
        checks.conjunction,
        objects=(("Is it tea and milk?", "Is it tea or milk?"),),
        agrees=(("Is it tea or milk?", "Is it milk or tea?"),),
    ),
)

WORD_RULES = (
    WordRule(
        "opposites",
        Kind.HARD,
        "opposites",
        checks.opposites,
        objects=(
            ("What is the hottest planet?", "What is the coldest planet?"),
            ("Are owls friendly?", "Are owls unfriendly?"),
        ),
        agrees=(("Is the soup hot?", "Is the soup spicy?"),),
    ),
    WordRule(
        "reversing word",
        Kind.HARD,
        "only one has a word that reverses the question",
        checks.reversing,
        objects=(
            ("Which food should I avoid with gout?", "Which food should I eat with gout?"),
            ("Why was my refund refused?", "Why was my refund partly refused?"),
        ),
        agrees=(("How do I stop hiccups?", "How do I quit hiccups?"),),
    ),
    WordRule(
        "names",
        Kind.HARD,
        "names differ",
        checks.names,
        objects=(("Where is Vienna?", "Where is Venice?"),),
        agrees=(("Where is Vienna?", "where is vienna"),),
    ),
    WordRule(
        "longer name",
        Kind.HARD,
        "one names more",
        checks.longer_name,
        objects=(("where is kansas", "where is kansas city"),),
        agrees=(("What is the capital of Peru?", "What is the capital city of Peru?"),),
    ),
    WordRule(
        "rare words",
        Kind.HARD,
        "words differ that may be names",
        checks.rare_words,
        objects=(("how old is celebrex", "how old is celexa"),),
        agrees=(("how do i fix a dent", "how do i fix a scratch"),),
    ),
    WordRule(
        "one kind",
        Kind.HARD,
        "things of one kind differ",
        checks.of_one_kind,
        objects=(("Can a dog eat grapes?", "Can a cat eat grapes?"),),
        agrees=(("Can a dog eat grapes?", "Can dogs eat grapes?"),),
    ),
    WordRule(
        "alike",
        Kind.HARD,
        "words differ that look alike",
        checks.alike,
        objects=(("What is a casual link?", "What is a causal link?"),),
        agrees=(("How do I reset my password?", "How do I reset my pasword?"),),
    ),
    WordRule(
        "degree",
        Kind.HARD,
        "degrees of comparison differ",
        checks.degree,
        objects=(("Which planet is big?", "Which planet is biggest?"),),
        agrees=(("Which planet is biggest?", "Which is the biggest planet?"),),
    ),
    WordRule(
        "words as words",
        Kind.HARD,
        "words differ in a question about words",
        checks.words_as_words,
        objects=(("How do you say buy in Welsh?", "How do you say purchase in Welsh?"),),
        agrees=(("How do you spell buy?", "how do you spell buy"),),
    ),
    WordRule(
        "grammar as topic",
        Kind.HARD,
        "grammar words differ, which may be what is asked about",
        checks.grammar_as_topic,
        objects=(("When do I use may in English grammar?", "When do I use can in English grammar?"),),
        agrees=(("What is the difference between a cat and a dog?", "what's the difference between a cat and a dog"),),
    ),
    WordRule(
        "bare question",
        Kind.HARD,
        "only the question words differ",
        checks.bare_question,
        objects=(("How is soap made?", "What is soap made of?"), ("Is soap made of fat?", "What is soap made of?")),
        agrees=(("What is a good way to lose fat?", "How do I lose fat?"),),
    ),
    WordRule(
        "object",
        Kind.HARD,
        "only one says",
        checks.object_pronoun,
        objects=(("How do I block someone?", "How do I know someone blocked me?"),),
        agrees=(("Tell me how to block someone", "How do I block someone?"),),
    ),
    WordRule(
        "task",
        Kind.HARD,
        "tasks differ",
        checks.task,
        objects=(("Share files with a team", "Find files with a team"),),
        agrees=(("Write a poem", "write a poem"),),
    ),
    WordRule(
        "form",
        Kind.HARD,
        "forms of a word differ",
        checks.form,
        objects=(("Why is my cat bored?", "Why is my cat boring?"),),
        agrees=(("How is beer brewed?", "How do you brew beer?"),),
    ),
    WordRule(
        "direction",
        Kind.HARD,
        "directions differ",
        checks.direction,
        objects=(("Flights from Rome", "Flights to Rome"), ("Songs by Adele", "Songs about Adele")),
        agrees=(("How do I get from Rome to Pisa?", "How do I get to Pisa from Rome?"),),
    ),
    WordRule(
        "preposition",
        Kind.HARD,
        "only a preposition differs",
        checks.preposition,
        objects=(
            ("Can I sue a friend?", "Can I sue for a friend?"),
            ("How do I apply to a bank?", "How do I apply for a bank?"),
        ),
        agrees=(("How do I write better at school?", "How do I write better in school?"),),
    ),
    WordRule(
        "order",
        Kind.HARD,
        "the order of words differs",
        checks.word_order,
        objects=(
            ("Can a lawyer sue a judge?", "Can a judge sue a lawyer?"),
            ("What is a house boat?", "What is a boat house?"),
        ),
        agrees=(
            ("In Word, how do I open a file?", "How do I open a file in Word?"),
            ("the version of Python", "the Python version"),
        ),
    ),
    WordRule(
        "roles",
        Kind.HARD,
        "who does it to whom differs",
        checks.roles,
        objects=(("Is the dog chased by the cat?", "Does the dog chase the cat?"),),
        agrees=(
            ("Who was Jaws directed by?", "Who directed Jaws?"),
            ("What do pandas eat?", "What is eaten by pandas?"),
        ),
    ),
    WordRule(
        "replaced word",
        Kind.SOFT,
        "words differ",
        checks.replaced,
        objects=(("How do I fix a dent?", "How do I fix a scratch?"),),
        agrees=(("How do I buy a sofa?", "How do I buy a couch?"),),
    ),
    WordRule(
        "added word",
        Kind.SOFT,
        "only one says",
        checks.one_sided,
        objects=(("how do i make soup", "how do i make vegan soup"),),
        agrees=(("how do i make soup", "How can I make soup?"),),
    ),
    WordRule(
        "senses",
        Kind.SOFT,
        "words differ that may mean the same",
        checks.several_senses,
        objects=(("Is a dentist a doctor?", "Is a dentist a physician?"),),
        agrees=(("How do I buy a sofa?", "How do I buy a couch?"),),
    ),
    WordRule(
        "typo",
        Kind.SOFT,
        "spelling differs",
        checks.typo,
        objects=(("How do I reset my password?", "How do I reset my pasword?"),),
        agrees=(("What is a gray cat?", "What is a grey cat?"),),
    ),
    WordRule(
        "abbreviation",
        Kind.SOFT,
        "one is short for the other",
        checks.abbreviation,
        objects=(("How do I set up a VPN?", "How do I set up a virtual private network?"),),
        agrees=(("How do I set up a VPN?", "how do i set up a vpn"),),
    ),
    WordRule(
        "word form",
        Kind.SOFT,
        "forms of a word differ somewhat",
        checks.word_form,
        objects=(("How is beer brewed?", "How do you brew beer?"),),
        agrees=(("How is beer brewed?", "How are beers brewed?"),),
    ),
    WordRule(
        "grammar words",
        Kind.SOFT,
        "grammar words differ",
        checks.grammar_words,
        objects=(("How do I learn at school?", "How do I learn in school?"),),
        agrees=(("How do I learn at school?", "How can I learn at school?"),),
    ),
    WordRule(
        "article",
        Kind.SOFT,
        "a, the or number differ",
        checks.article,
        objects=(("How hot is the sun?", "How hot are suns?"),),
        agrees=(("How tall is a giraffe?", "How tall are giraffes?"),),
    ),
    WordRule(
        "ending",
        Kind.SOFT,
        "the last words differ",
        checks.ending,
        objects=(("Who was Jaws directed by?", "Who directed Jaws?"),),
        agrees=(("Where is Rome?", "where is rome"),),
    ),
    WordRule(
        "frame",
        Kind.SOFT,
        "the shapes of the questions differ",
        checks.frame,
        objects=(("reset iphone", "How do I reset an iPhone?"),),
        agrees=(("How do I tie a tie?", "how to tie a tie"),),
    ),
    WordRule(
        "loose modality",
        Kind.SOFT,
        "can, may, should, must or will differ somewhat",
        checks.loose_modality,
        objects=(("Can I freeze cheese?", "Is it possible to freeze cheese?"),),
        agrees=(("Can I freeze cheese?", "can I freeze cheese"),),
    ),
    WordRule(
        "anybody",
        Kind.SOFT,
        "I, you or nobody is asked about",
        checks.anybody,
        objects=(("How do you make tea?", "How do I make tea?"),),
        agrees=(("How do I make tea?", "how do i make tea"),),
    ),
    WordRule(
        "unclear tense",
        Kind.SOFT,
        "tenses may differ",
        checks.tense_unclear,
        objects=(("Why did Rome fall?", "the fall of Rome"),),
        agrees=(("Why did Rome fall?", "Explain why Rome fell"),),
    ),
    WordRule(
        "capital",
        Kind.SOFT,
        "only one is written as a name",
        checks.capital,
        objects=(("How do I polish shoes?", "How do I Polish shoes?"),),
        agrees=(("What does NASA do?", "what does nasa do"),),
    ),
    WordRule(
        "voice",
        Kind.SOFT,
        "one is passive",
        checks.voice,
        objects=(("How is beer brewed?", "How do you brew beer?"),),
        agrees=(("How is beer brewed?", "how is beer brewed"),),
    ),
    WordRule(
        "loose quantifier",
        Kind.SOFT,
        "and, or, all or some differ somewhat",
        checks.loose_quantifier,
        objects=(("Do all owls hoot?", "Do owls hoot?"),),
        agrees=(("What are good books?", "what are good books"),),
    ),
    WordRule(
        "moved word",
        Kind.SOFT,
        "words have moved",
        checks.moved,
        objects=(("In Word, how do I open a file?", "How do I open a file in Word?"),),
        agrees=(("How do I open a file?", "how do i open a file"),),
    ),
)

RULES: dict[str, Rule] = {rule.name: rule for rule in (*TEXT_RULES, *WORD_RULES)}
