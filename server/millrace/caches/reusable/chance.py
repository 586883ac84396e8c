"""Requests for something random or new each time."""

from millrace.caches.reusable.rule import CHANCE, Rule, rule

_ASKED = r"(?:^|\b(?:and|then|me|us|a|an|any|another|some) )"

RULES: tuple[Rule, ...] = (
    rule(
        "coins and dice",
        CHANCE,
        "coin coins dice die heads tails d4 d6 d8 d10 d12 d20 2d6 dies roulette",
        r"\b(?:flip|toss|roll|throw|cast|spin)\w*\b.*\b(?:coins?|dice|die|dies|\d*d\d+)\b|^(?:a )?coin (?:flip"
        r"|toss)$|\b(?:dice|die) roll"
        r"|\bheads or tails\b|\btails or heads\b|\bsided (?:dice|die)\b|^(?:a |some )?dice$",
        unless=r"\b(?:probability|chances?|odds|expected|simulat\w+ in|python|java|javascript|average|how many"
        r"|dough|sushi|tortilla)\b",
        refused=(
            "Flip a coin",
            "please roll a twenty sided die",
            "heads or tails?",
            "what do you get when you roll a die",
        ),
        kept=("What is the probability of flipping heads twice?", "How many sides does a die have?"),
    ),
    rule(
        "random",
        CHANCE,
        "random randomly randomize arbitrary shuffle",
        r"^(?:a |an |some |any |one |me )?(?:totally |completely |truly )?(?:random|randomly|arbitrary)\b"
        r"|^(?:pick|choose|generate|give|tell|name|say|show|draw|select|suggest|recommend|assign|sort"
        r"|split|make|create|play|get|share|think|write|produce|provide|list|find|send|ask|surprise|decide"
        r"|what is)\b.*\b(?:random|randomly|arbitrary)\b"
        r"|^(?:shuffle|randomize)\b",
        unless=r"\b(?:meaning|definition) of\b|\brandom (?:forest|forests|variables?|access|walks?|sampling"
        r"|sample|effects?|error|noise|seed"
        r"|processe?s?|field|matrix|graph|number generators?|acts? of|house|state|search|module)\b"
        r"|\b(?:python|java|javascript|numpy|sql|c\+\+|excel|php|algorithm|function|code|program|script)\b",
        refused=("Pick a random number between 1 and 10", "random color please", "Could you give me a random word?"),
        kept=(
            "What is a random forest?",
            "How do I generate a random number in Python?",
            "shuffle a list in javascript",
        ),
    ),
    rule(
        "chosen by chance",
        CHANCE,
        "pick choose guess think draw deal spin select decide surprise winner lottery tarot 8 ball lots straws "
        "name say any lucky eeny choice call rock go goes first",
        r"^(?:pick|choose|guess|select|name|think of|give) (?:me |us )?(?:a|an|any|one|two|three|some"
        r"|\d+)? ?(?:\w+ )?(?:number|numbers|card|cards|letter|color|colour|winner|one)\b(?!.* (?:in|with"
        r"|using) (?:python|java|excel|sql))"
        r"|^(?:pick|choose|select|decide)\b.*\b(?:for (?:me|us)|from (?:this|these|the following)"
        r"|one of (?:these|them|the following)|between (?:these|them)|winner)\b"
        r"|^(?:draw|deal)\b.*\b(?:cards?|tarot|lots|straws|names?)\b|^spin\b|^surprise (?:me|us)\b"
        r"|\blottery numbers\b(?=.*\b(?:give|pick|lucky|for me|tonight)\b|$)|^(?:give|pick"
        r"|get)\b.*\blottery numbers\b|\bmagic (?:8|eight) ball\b|\bwho (?:should )?goes? first\b"
        r"|^(?:you|(?:let|may) (?:fate|chance|luck|fortune|a coin|the (?:dice|coin|cards))) (?:decide|choose|pick)s?\b"
        r"|\byou (?:decide|choose|pick)$|^(?:it is )?your (?:pick|choice|call|move)$|^(?:decide|choose|pick)$"
        r"|^(?:pick|choose|name|say|think of) (?:me |us )?any (?:\w+ )?\w+$|^(?:pick|choose|name|say) any \w+,"
        r"|^(?:a |my |any |some |give me (?:a |my |some )?)?lucky (?:numbers?|colou?rs?)\b",
        unless=r"\b(?:how to|in sql|in python|css)\b",
        refused=(
            "pick a number from 1 to 100",
            "deal me five cards",
            "surprise me",
            "choose a winner from this list: Ann, Bob",
        ),
        kept=("How do I choose a career?", "draw a circle in canvas", "What is the guess number of a game?"),
    ),
    rule(
        "secrets and identifiers",
        CHANCE,
        "password passwords passphrase uuid guid uuids guids token otp pin key salt nonce username nickname id",
        r"^(?:generate|create|make|give|need|new|produce|invent|suggest|come up|another|build"
        r"|make up)\b.*\b(?:passwords?|passphrase|uuids?|guids?|tokens?|otp|pin|(?:api|secret|encryption"
        r"|access) keys?|salt|nonce)\b"
        r"|^(?:a |an )?(?:new |strong |secure )*(?:uuid|guid|password)$",
        unless=r"\b(?:in|with|using|for) (?:python|java|javascript|node|php|ruby|rust|go|c#|sql|bash|linux"
        r"|postgres\w*|mysql|aws|github|windows|excel)\b|\b(?:hash|function|policy|field|manager|reset|jwt"
        r"|protected|protect|tips|advice|ideas|example|examples)\b",
        refused=("Generate a UUID", "make me a strong password", "create an api key"),
        kept=("What is a UUID?", "generate uuid in python", "How do I create a password policy?"),
    ),
    rule(
        "a secret that is wanted",
        CHANCE,
        "password passwords passphrase uuid guid uuids guids nonce username nickname",
        r"^(?:a |an |some |one )?(?:\w+ ){0,3}?(?:passwords?|passphrase|uuids?|guids?|nonce|username|nickname)\b",
        moods="wish you",
        unless=r"\b(?:in|using|for) (?:python|java|javascript|node|php|sql|bash|linux|windows|excel)\b|\b(?:hash"
        r"|function"
        r"|policy|field|manager|reset|protected|protect|change|my|how|help|tips|advice|ideas|example|examples)\b",
        refused=("I need a new strong password with sixteen characters", "i want a guid"),
        kept=("I need a password manager", "I want a username policy"),
    ),
    rule(
        "another one",
        CHANCE,
        "version versions one ones idea ideas variant variants take another different fresh",
        r"^(?:write|give|tell|show|make|try|suggest|say|create|draw)\b.*\b(?:a different|another|a new|a fresh"
        r"|some other"
        r"|some new|different) (?:\w+ )?(?:version|one|idea|variant|take|option|variation|suggestion|name|title"
        r"|answer|example)s?(?: please)?$"
        r"|^(?:an?other|a different|a new|one more) (?:\w+ )?(?:one|idea|version|variant|option|suggestion"
        r"|variation)s?(?: please)?$",
        refused=("write me a different version", "another name idea"),
        kept=("What is another version of the theory?", "write a new version of a file in git"),
    ),
    rule(
        "bored",
        CHANCE,
        "bored",
        r"^(?:i am |we are )?(?:so |really |very |a bit |kind of )?bored\b(?! (?:of|by|with|at|when|in)\b)",
        general=True,
        unless=r"\b(?:how|why|what|when)\b",
        refused=("i'm bored, do something", "we're so bored"),
        kept=("Why are people bored?", "I am bored of my job, should I quit?"),
    ),
    rule(
        "entertainment",
        CHANCE,
        "something joke jokes jok pun puns riddle riddles trivia fact facts quote laugh funny "
        "story stories twister entertain bored compliment "
        "insult poem limerick interesting inspire motivate song sing amuse rap cheer dare unusual weird "
        "haiku verse rhyme word thought tip recipe know recite",
        rf"{_ASKED}(?:\w+ ){{0,4}}?(?:jokes?|puns?|riddles?|trivia|fun facts?|tongue twister)\b"
        rf"|\bfun facts?\b|\b(?:jokes?|trivia|riddles?)\b(?: please)?$"
        r"|\b(?:make|let) (?:me|us) (?:laugh|smile)\b|^(?:say |tell me |hear )?(?:something"
        r"|anything) (?:\w+ )?(?:funny|interesting|fun|weird|amusing|cool|new)\b|\b(?:quote|word|joke|fact|thought"
        r"|tip|recipe|question) (?:of|for) the day\b"
        r"|^(?:recite|sing|say|tell)\b.*\b(?:an?|some|another) (?:new |fresh |different |random )?(?:limerick|poem"
        r"|haiku|verse|rhyme|song)\b(?! (?:by|from|called|titled|about)\b)"
        r"|^(?:give|name|share|say|hear|list|need|a|an|some|state)\b.*\b(?:random|cool|interesting|weird"
        r"|unusual|amusing|crazy|fun|strange) (?:\w+ )?(?:facts?|trivia)\b|\bsomething (?:interesting"
        r"|funny|cool|unusual|amusing|weird|fun)\b"
        r"|^(?:entertain|amuse|inspire|compliment|insult|motivate|cheer)\b(?: (?:me|us))?|^(?:i am "
        r"|i'm )?bored\b|^(?:a |another |an? \w+ )?(?:bedtime )?(?:story|stories)$|^(?:sing|rap)\b"
        r"|\btruth or dare\b|^(?:give|tell|share|send|show) (?:me |us )?(?:an? |some )(?:\w+ )?(?:quote"
        r"|story|compliment|insult)\b",
        unless=r"\b(?:how to|history of|merriam|\w+est (?:\w+ )?(?:joke|pun|riddle)|what makes|joke (?:mean|about me)"
        r"|write|explain"
        r"|killing joke|why (?:is|do|are)|story of|story about)\b|^(?:are|is|do|does"
        r"|what is the (?:difference|definition|meaning))\b(?!.*\btrivia\b(?: about| on| of))",
        refused=(
            "Tell me a joke",
            "know any good jokes?",
            "Give me a fun fact about koalas",
            "make me laugh",
            "tell me a story",
        ),
        kept=("What makes a joke funny?", "Write a haiku about rain", "What is the definition of trivia?"),
    ),
)
