"""The rules that need no pairing of words, as a table. All are hard. They come first."""

from millrace.caches.guards import text_checks as checks
from millrace.caches.guards.rule import TextRule

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
            ("What is half of two, plus two?", "What is half of two plus two?"),
            ("What is two times (two plus two)?", "What is two times two plus two?"),
            ("What is f'(0)?", "What is f(0)?"),
            ("How much is 5!", "How much is 5"),
            ("What does the operator ? do", "What does the operator ! do"),
            ("What is the operator !", "What is the operator ?"),
        ),
        agrees=(
            ("Is tap-water safe?", "Is tap water safe"),
            ("Hello - what is rain?", "Hello, what is rain?!"),
            ("What is my dogs' age?", "What is my dogs age?"),
            ("When was the war of 1812!!", "When was the war of 1812"),
        ),
    ),
    TextRule(
        "indentation",
        "the lines or their indentation differ",
        checks.indentation,
        objects=(
            ("Fix the list\n- a\n  - b", "Fix the list\n- a\n- b"),
            ("Does it run?\nall:\n\tcc a.c", "Does it run?\nall:\n    cc a.c"),
            ("Is it a haiku?\nold pond\na frog leaps in\nwater", "Is it a haiku?\nold pond\na frog leaps\nin water"),
            ("Is it one stanza?\nold pond.\n\na frog", "Is it one stanza?\nold pond.\na frog"),
        ),
        agrees=(
            ("Fix the list\n- a\n- b", "Fix the list\n- a\n- b"),
            ("Why is it cold?\nI am\nin Rome", "Why is it cold?\nI am in\nRome"),
            ("Is it a haiku?\n\nold pond\na frog", "Is it a haiku?\nold pond\na frog"),
        ),
    ),
    TextRule(
        "case",
        "letter case differs in what may be code",
        checks.letter_case,
        objects=(
            ("What does grep -R do?", "What does grep -r do?"),
            ("How fast is 5 Mbps?", "How fast is 5 MBps?"),
            ("How many Mb has a film?", "How many MB has a film?"),
            ("what does D do in vim", "what does d do in vim"),
            ("What does the I flag of sed do?", "What does the i flag of sed do?"),
            ("What is date +%D?", "What is date +%d?"),
            ("what is the symbol Σ", "what is the symbol σ"),
        ),
        agrees=(
            ("What is JavaScript?", "what is javascript"),
            ("HOW OLD IS ROME", "how old is Rome"),
            ("what is vitamin C", "what is vitamin c"),
            ("What can I do in Rome?", "what can i do in rome"),
        ),
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
        objects=(
            ('Say "cat" in Welsh', 'Say "dog" in Welsh'),
            ("Sort the list: d, e, f", "Sort the list: d, f, e"),
            ('How long is "abc "?', 'How long is "abc"?'),
            ('What is the tone of "ok."?', 'What is the tone of "ok"?'),
        ),
        agrees=(
            ('What does "NATO" mean?', "What does NATO mean?"),
            ("Quick question: what is rain?", "what is rain"),
            ('Who said "I came, I saw."?', 'Who said "I came, I saw"?'),
        ),
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
        agrees=(
            ("Why isn't the fan on?", "Why is the fan not on?"),
            ("my fan wont start", "my fan won't start"),
        ),
    ),
    TextRule(
        "question",
        "question words differ",
        checks.question_class,
        objects=(("Why do owls hoot?", "When do owls hoot?"), ("Define a class in Java", "What is a class in Java?")),
        agrees=(
            ("How do I tie a tie?", "What's the best way to tie a tie?"),
            ("reset iphone", "How do I reset an iPhone?"),
            ("What are some names for cats?", "Suggest some names for cats"),
            ("What are examples of fruits?", "Give me examples of fruits"),
            ("Give me a recipe for pie", "Could I have a recipe for pie?"),
        ),
    ),
    TextRule(
        "modality",
        "can, may, should, must or will differ",
        checks.modality,
        objects=(
            ("Should I fly?", "Must I fly?"),
            ("Is it possible to park here?", "Is it allowed to park here?"),
            ("Do I need to fly?", "Do I want to fly?"),
        ),
        agrees=(("Can I freeze cheese?", "Is it possible to freeze cheese?"),),
    ),
    TextRule(
        "person",
        "I and you differ",
        checks.person,
        objects=(
            ("Can you refund an order?", "Can I refund an order?"),
            ("Do I love you?", "Do you love me?"),
            ("Can you teach me chess?", "Can I teach you chess?"),
        ),
        agrees=(
            ("How do you make tea?", "How do I make tea?"),
            ("How do I write thank you cards?", "how to write thank you cards"),
        ),
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
        "all, some, few, twice, only or what bounds a number differ",
        checks.quantifier,
        objects=(
            ("Do all birds fly?", "Do some birds fly?"),
            ("Why does everyone like jazz?", "Why does someone like jazz?"),
            ("Why do few people like jazz?", "Why do a few people like jazz?"),
            ("Is it once or twice a day?", "Is it twice or thrice a day?"),
            ("Do I need exactly two witnesses?", "Do I need at least two witnesses?"),
            ("May I keep up to 5 dogs?", "May I keep 5 or more dogs?"),
        ),
        agrees=(
            ("Do birds fly?", "Do birds fly"),
            ("Does anyone like jazz?", "Does somebody like jazz?"),
            ("Are at most 5 dogs allowed?", "Are no more than five dogs allowed?"),
        ),
    ),
    TextRule(
        "conjunction",
        "and, or differ",
        checks.conjunction,
        objects=(("Is it tea and milk?", "Is it tea or milk?"),),
        agrees=(("Is it tea or milk?", "Is it milk or tea?"),),
    ),
)
