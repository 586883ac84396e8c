"""Requests whose answer depends on who asks: what is theirs, what they did, where they are.

General questions that say "my" or "I" are not among them: how, why, may I, what if (`reading`).
"""

from millrace.caches.reusable.rule import ASKER, Rule, rule

_MINE = r"(?:my|our|mine|ours)"
_BE = r"(?:is|are|was|were|does|do|did|has|have|had|will|would|can|could|should|am)"
# What somebody keeps an account of, or a device knows.
_KEPT = (
    r"(?:accounts?|balances?|bills?|invoices?|payments?|transactions?|purchases?|spending|budget"
    r"|statements?|deposits?|refunds?|paychecks?|salary|income"
    r"|cards?|limit|points|rewards|miles|subscriptions?|plans?|policy|insurance|coverage|deductible"
    r"|applications?|claims?|orders?|packages?"
    r"|parcels?|deliver(?:y|ies)|shipments?|flights?|bookings?|reservations?|tickets?|itinerary|luggage"
    r"|bags?|seats?|hotel|appointments?"
    r"|meetings?|calendar|schedule|agenda|events?|reminders?|alarms?|timers?|lists?|todos?|tasks?|notes?"
    r"|playlists?|songs?|music|photos?|pictures"
    r"|files|documents?|emails?|mails?|inbox|messages?|texts?|notifications?|voicemails?|calls?|contacts?"
    r"|location|route|commute|address"
    r"|name|birthday|age|number|email|password|pin|code|id|username|profile|settings|preferences|battery"
    r"|storage|data|usage|mileage|mpg|gas|fuel"
    r"|tank|tires?|oil|steps|heart rate|sleep|weight|workouts?|calories|medications?|prescriptions?"
    r"|test results?|results?|grades?|scores?|gpa"
    r"|assignments?|homework|classes|courses|exams?|vacation|pto|leave|days off|time off|timesheet|shifts?"
    r"|taxes|loan|mortgage|rent|interest|apr"
    r"|credit|stocks?|portfolio|shares|pull requests?|issues|commits|builds?|devices?|lights?|doors?"
    r"|thermostat|oven|car|phone|keys|house|home|passports?|licen[cs]e|visa|memberships?|warranty|contracts?"
    r"|certificates?|lease|registration"
    r"|network|ip|wifi|friends|followers|boss|team|manager|wife|husband|mom|mother|dad|father|kids?)"
)

RULES: tuple[Rule, ...] = (
    rule(
        "what is mine",
        ASKER,
        "my our mine ours",
        rf"^(?:what|which|who|whose|when|where|at what|how (?:much|many|long|far|old|is|are|was|were|big"
        rf"|low|full|high|soon))\b"
        rf".*\b{_MINE}\b"
        rf"|^(?:is|are|was|were|has|have|had|does|did|do|will|if|whether)(?: \w+)? {_MINE} "
        rf"(?:[\w'&]+ ){{0,3}}?{_KEPT}\b"
        rf"|^(?:is|are|if) (?:there|any|anything|something|\w+)\b.*\b(?:on|in|at|from|for|to|of"
        rf"|among) {_MINE} (?:[\w'&]+ ){{0,3}}?{_KEPT}\b"
        rf"|^(?:show|tell|give|read|list|check|see|view|display|look|pull|bring|access|locate|track"
        rf"|monitor|verify|confirm|recite|hear|iterate|open|share|name|summarize|review|go over|status"
        rf"|update)\b"
        rf".*\b{_MINE} (?:[\w'&]+ ){{0,3}}?{_KEPT}\b"
        rf"|^{_MINE} (?:[\w']+ ){{0,2}}?{_KEPT}(?: (?:please|now|status|balance|due date|total|reference|number|code"
        rf"|details|history))*$"
        rf"|\b(?:status|balance|summary|overview|location|details|total|amount|name|date) (?:of|on|for) {_MINE}\b",
        unless=r"\b(?:how to|why|steps?|process|procedure|ways?|tips|ideas|advice|instructions?|tutorial|guide"
        r"|would|could|can|else|accepts?|reason|takes?|needs?|requires?d?|have to|allow|my (?:kids"
        r"|children)|charged|accepted|phone number"
        r"|contact number|good for|point of|difference|now that|mean|means|best|better|recommend\w*|normal"
        r"|signs?|symptoms?|cause[sd]?|should|zodiac|if i|when i|options|supposed"
        r"|wrong with|happen(?:s|ed)? (?:to|if|when)|on my own|in my (?:life|opinion|case|situation|head"
        r"|20s|30s)|of my life|my (?:crush|ex|boyfriend|girlfriend|dream))\b",
        refused=(
            "What is my balance?",
            "What's on my calendar?",
            "when does my flight leave",
            "show me my messages",
            "has my refund been paid",
            "account balance of my savings",
        ),
        kept=(
            "How do I change my PIN?",
            "Why is my card not working?",
            "what happens to my card when it expires",
            "What should my resting heart rate be?",
            "my phone is not charging",
        ),
    ),
    rule(
        "told what is mine",
        ASKER,
        "my our",
        rf"^(?:[\w']+ ){{0,6}}?{_MINE} (?:[\w'&]+ ){{0,3}}?{_KEPT}\b",
        moods="tell",
        unless=r"\b(?:how|why|mean|should|can i|steps?|process|tips|ideas|advice|instructions?|tutorial|guide|way"
        r"|difference|write|improve|fix|draft|strategies|translate"
        r"|correct|explain|suggest|recommend|name (?:for|ideas))\b|^(?:to )?(?:change|changing|report)\b",
        refused=(
            "tell me my card's pin",
            "can you tell me the pin number for my checking account",
            "I need to know my credit rating score",
        ),
        kept=("tell me how to change my PIN", "can you suggest tips for my homework"),
    ),
    rule(
        "what I have or did",
        ASKER,
        "i we me",
        r"^(?:do|did|have|had|was|were|am|have not|did not) (?:i|we)\b(?! (?:need|needed|have to|get (?:a"
        r"|paid if|charged)|have to|really|always|pay|allowed|able|permitted|supposed"
        r"|the only|too|in love|gay|depressed|pregnant|crazy|wrong|right|a good|a bad|being))(?=.*\b(?:have|any|left|"
        r"late|due|free|eligible|on|booked|registered|enrolled|signed|scheduled|overdrawn|approved|spend"
        r"|spent|buy|bought|pay|paid|get|got|"
        r"set|put|add|added|leave|left|miss|missed|sent|send|say|said|ask|asked|tell|told|mark|order"
        r"|ordered|remember|already|qualify|owe|listening|take|took|taken|bring|see|seen)\b)"
        r"|^how (?:much|many|long|far|often|fast|well|old|tall|late) (?:[\w']+ ){0,4}?(?:do|did|have|has"
        r"|am|was|are|were) (?:i|we) (?!need|have to|get if|really|use to|supposed)"
        r"|^how (?:did|was|have|do) i (?:sleep|do|doing|spend|rank|look|score|been)\b"
        r"|^(?:what|which|who|where|when|that|whose|at what|what time|on what|what day)\b(?:(?! (?:should"
        r"|can|could|if|happens|would|kind of person|to do|is the difference|mean|means)).)*\b(?:am i"
        r"|was i|did i|have i|had i|i (?:have|had|did|bought|spent|owe|earned|make|earn|paid|ordered"
        r"|booked|set|put|left|took|wrote|listed|marked|am)|"
        r"do i (?:have|owe|make|earn|go by|take home|bring in|look|sound|live|work|own|get paid|still"
        r"|currently|weigh|next)|do we (?:have|owe)|did we|were we|are we)\b"
        r"|^(?:i (?:am|was) )?(?:who|where) am i\b|^(?:call|say|address|refer to) me\b|\bwhat (?:do|should"
        r"|did|would|can) you call me\b|^(?:what|how) do you (?:think )?(?:call|refer to|address"
        r"|know about) (?:me|my)\b|\bi (?:am|was) (?:called|named)\b"
        r"|^(?:(?:how (?:many|much|long|far)|what|when|where|which|the (?:last time|date|number of))\b.*"
        r"|whether )\b(?:i|we) (?:am|have|had|took|take|get|got|last|next|spent|owe|ordered"
        r"|bought|paid|used|earned|made|set|put|left|parked|booked|was|were|still)\b"
        r"|\bwhere i am\b|^how much\b.*\bwill i (?:owe|get|earn|make)\b|\bdue (?:date )?for me\b|\bremember me\b"
        r"|\babout me\b$|\bassigned to me\b",
        unless=r"\b(?:(?:as|because|since|while|that|who|and) i|charged|options|choices|rights|\w+,? if i|what if"
        r"|when i (?:have|am|was)|before i|after i"
        r"|once i|unless i|while i|do i get (?:for|if|when|with|from)|how do i|should i|what do i do|wrong)\b"
        r"|^what (?:do|am) i (?:do|need|missing|supposed|doing wrong)\b|\bi have (?:a|an|the flu|to)\b",
        refused=(
            "how much money do I have",
            "did I lock the door and set the alarm",
            "who am I meeting at noon",
            "where am I",
            "what did I buy on amazon",
            "how many vacation days do I have left",
        ),
        kept=(
            "Do I need a visa for India?",
            "Am I allowed to record a phone call?",
            "how many calories should I eat",
            "What do I do if I lost my card?",
            "when should I see a doctor",
        ),
    ),
    rule(
        "near me",
        ASKER,
        "me here nearby nearest closest area around near local city town location",
        r"\b(?:near|close to|around) (?:me|here|us|my)\b|\bnear(?:by|est)\b(?! (?:neighbou?rs?|integer"
        r"|whole|tenth|hundredth|thousand|star|galaxy|point|relative))"
        r"|\bclosest\b(?! (?:star|planet|galaxy|relatives?|living|friend|to the sun|synonym|match))"
        r"|\bin (?:my|this|our) (?:area|city|town|neighbou?rhood|state|country|region)\b|\bfrom here\b"
        r"|\bwhere is here\b|\b(?:current|present|map|exact) location\b|\blocation (?:where|i am)\b",
        general=True,
        unless=r"\bare you from\b|\b(?:nearest|closest)\b.*\b(?:to|near) (?!me\b|us\b|my\b|here\b|this\b"
        r"|the place)\w|\bnearest (?:value|number|color)\b|\bk[- ]nearest\b",
        refused=(
            "Which pharmacy is near me?",
            "closest gas station",
            "where is the nearest atm",
            "restaurants in my area",
        ),
        kept=("What is the closest star to Earth?", "k nearest neighbors explained", "What cities are near Lyon?"),
    ),
    rule(
        "lists",
        ASKER,
        "list lists calendar playlist",
        r"\b(?:my|the) (?:shopping|grocery|to-? ?do|todo|chores?|reminders?|packing|wish) lists?\b|\b(?:on"
        r"|to|from|off|in|of) my (?:\w+ )?(?:list|calendar|playlist)\b",
        unless=r"\b(?:how|template|app|apps)\b",
        refused=("does my shopping list have milk", "i need bananas on the grocery list", "what is on my todo list"),
        kept=("How do I share my calendar?", "What is a to do list?"),
    ),
    rule(
        "approved or not",
        ASKER,
        "vacation pto leave application request refund transfer payment top-up top reservation order "
        "transaction booking",
        r"^(?:is|are|was|were|did|does|has|have|had|will|if|whether|any|do)\b.*\b(?:vacation|pto|time off"
        r"|leave|application|request|refund|transfer|payment|top-? ?up|reservation|order|transaction"
        r"|booking)s?\b.*"
        r"\b(?:approved?|approval|granted|accepted|processed|cancell?ed|confirmed|gone|go|come|came|done"
        r"|through|received|arrived|shipped|sent|rejected|denied|complete[d]?|finish(?:ed)?|update|news"
        r"|info)\b",
        unless=r"\b(?:how|why|what happens|long|can i|should|usually|always|an? (?:refund|transfer|request|order"
        r"|payment|reservation)|if (?:a|an|the bank)|supported|sql|to (?:get|be))\b",
        refused=(
            "was my leave approved",
            "has the transfer gone through",
            "Do you know if my top-up has been cancelled?",
        ),
        kept=(
            "Why was my transfer declined?",
            "Are transfers between banks processed on weekends? How long do they take?",
        ),
    ),
    rule(
        "bills",
        ASKER,
        "bill bills payment",
        r"^(?!how (?:do|can) i (?:pay|lower|reduce|read|get|set))(?=.*\b(?:minimum|lowest|least|latest"
        r"|last day|when|due)\b).*\bmy (?:[\w&]+ ){0,3}?(?:bills?|payment)\b"
        r"|^(?:what is |is there )?(?:the |a )?minimum (?:amount|payment)(?: due| on my| i)?\b(?! (?:wage|mean))",
        general=True,
        unless=r"\b(?:why|what happens|if i|can not|pending|declined|failed)\b",
        refused=("what is the lowest amount i must pay on my phone bill", "where can i see when my water bill is due"),
        kept=("How do I read a water bill?", "What happens if my bill is paid late?"),
    ),
    rule(
        "fuel and pay",
        ASKER,
        "tank gas fuel payday pay paid",
        r"\b(?:on|with) (?:my|this|the) (?:\w+ )?(?:gas|fuel|tank)(?: level| tank)?\b(?! (?:gauge|stove|cap))"
        r"|\benough (?:gas|fuel)\b|\b(?:this amount of|run out of) (?:gas|fuel)\b|\bpay ?day\b(?! (?:loan"
        r"|super|2|bar))|\bi (?:get|be) paid\b",
        general=True,
        unless=r"\b(?:how do|how can|what (?:do|should) i do|why|mean)\b",
        refused=("can i make it to work on this tank", "do I have enough gas to get home", "when is payday"),
        kept=("What is a payday loan?", "How do I get paid on YouTube?"),
    ),
    rule(
        "messages, lists and devices",
        ASKER,
        "unread messages message emails email inbox voicemail voicemails missed calls notifications "
        "calendar agenda reminders reminder alarms todo to-do shopping grocery list lists timer "
        "appointments meetings meeting door tire pressure mileage mpg appointment transactions "
        "bill due paycheck vacation pto balance points credit card",
        r"^(?:any|are there|is there|what|which|who|how many|show|read|list|check|do|does|is|are|has|have"
        r"|what is|open|view|see|display|give|recite)\b.*\b(?:(?:new|unread|missed|recent) (?:messages?"
        r"|emails?|mails?|calls?|texts?|notifications?|voicemails?)|voicemails?|on the (?:calendar|agenda"
        r"|schedule|shopping list|grocery list|to-? ?do list|list)"
        r"|(?:shopping|grocery|to-? ?do|todo) list|reminders|alarms|recent transactions|unread)\b"
        r"|^(?:is|are|what|any|do|does|when|which|at what|what time|for what time|list|check"
        r"|show)\b.*\b(?:meetings?|appointments?)\b.*\b(?:on|at|from|with|scheduled|for|calendar|today"
        r"|tomorrow|set)\b|^(?:is )?(?:anything|something|what is) (?:is )?(?:on|scheduled|planned)\b"
        r"|^(?:who|is (?:someone|somebody|anyone)) (?:is )?at the (?:front )?door\b|^(?:is|are"
        r"|did) the (?:front |back |garage )?(?:door|doors|lights?|oven|stove|windows?|garage|alarm"
        r"|heating)\b.*\b(?:locked|closed|open|on|off|unlocked|set)\b"
        r"|^(?:what|how|is|give|tell|check|see|the)\b.*\b(?:tire|tyre) pressure\b.*\b(?:my|the|is|are|now"
        r"|low|for the|of the)\b|^how (?:low|full|much air)\b.*\b(?:tires?|tank|battery)\b"
        r"|^how much (?:time|longer)\b.*\b(?:timer|left)\b|\b(?:days|hours|pto|vacation|sick"
        r"|leave) (?:days? |time )?(?:left|remaining|balance|available|used)\b|\bbalance (?:of|on|in"
        r"|for) (?:the |a )?(?:savings|checking|account|card|visa|bank)\b|^(?:account|bank|card"
        r"|credit card|checking|savings|pto|vacation|rewards?|points)(?: \w+)? balance$|^balance$",
        unless=r"\b(?:should|recommended|what is (?:a|an|the (?:point|purpose|difference))|good|etiquette|python"
        r"|java|js|sql|linked|reading list|door (?:open(?:s|ed)? (?:into|by itself)))\b|\bwhat (?:tire"
        r"|tyre) pressure should\b",
        refused=(
            "any new messages",
            "is anything on the calendar for Friday",
            "what meetings are scheduled for today",
            "who is at the door",
            "account balance",
        ),
        kept=(
            "What is a meeting agenda?",
            "What tire pressure should I use for a sedan?",
            "How do I check for new messages on Linux?",
        ),
    ),
    rule(
        "the status of one thing",
        ASKER,
        "status order ticket case claim flight tracking shipment invoice application track package "
        "parcel luggage number progress refund",
        r"\b(?:status|progress|whereabouts|update|news) (?:of|on|for|about|with|update on) (?:the |my "
        r"|an? )?(?:[\w&]+ ){0,3}?(?:order|ticket|case|claim|flight|shipment|invoice|application|package"
        r"|parcel|luggage|refund|delivery|request|issue|job|build|vacation|payment)\b"
        r"|\b(?:order|ticket|case|claim|shipment|invoice|tracking number|issue|incident)(?: number"
        r"| no)? ?#?\d{3,}|^track\b.*\b(?:order|package|parcel|shipment|delivery|luggage|flight)\b"
        r"|^where is (?:the|my|our) (?:order|package|parcel|delivery|shipment|luggage)\b|\b(?:order|flight"
        r"|application|refund|claim|delivery) status\b",
        unless=r"\b(?:how (?:do|can|to)|what (?:does|is) (?:order|flight) status|mean|http)\b",
        refused=("What is the status of order 1001?", "track the package", "order status"),
        kept=("How do I track an order?", "What does order status processing mean?"),
    ),
    rule(
        "how I look, and what I think",
        ASKER,
        "look see hear guess",
        r"^how do (?:i|we) look(?: (?:today|tonight|now|in (?:this|my)\b.*))?$"
        r"|^do (?:i|we) look (?!for|up|after|at|into)"
        r"|^(?:see|hear) (?:(?:me|us)(?: now)?$|what i am\b|my (?:screen|face|camera|video|room|cursor|desktop)\b)"
        r"|^guess (?:my|what i|who i|how \w+ i|where i)\b",
        general=True,
        refused=("how do I look today", "Can you see my screen?", "guess my age", "do I look fat"),
        kept=("How do I look up a word?", "How do I see my screen time?", "Can owls see me at night?"),
    ),
    rule(
        "what I gave",
        ASKER,
        "uploaded attached shared pasted posted submitted file record",
        r"\b(?:what|that|which|file|document|picture|photo|image|pdf) i (?:have |just )*(?:uploaded|attached|shared"
        r"|pasted|posted|submitted)\b|\b(?:have|got|is|are) on (?:file|record) (?:for|about) (?:me|us)\b",
        general=True,
        unless=r"\b(?:how|why|should|if)\b",
        refused=("Can you see what I uploaded?", "which address do you have on file for me"),
        kept=("How do I delete a file that I uploaded?", "What is a file?"),
    ),
    rule(
        "what I hear and see",
        ASKER,
        "song track music playing listening artist singing sings who what",
        r"\b(?:what|which|who|name|title|identify|artist)\b.*\b(?:this|that|the current|current) (?:song"
        r"|track|tune|music|artist|band|album)\b|\b(?:song|track|music)\b.*\b(?:is this|playing"
        r"|on right now|i hear)\b|^(?:what|who) is (?:this|playing|singing)(?: (?:song|now|this"
        r"|right now))?$",
        unless=r"\b(?:how|why|python|java)\b",
        refused=("what song is this", "who is singing this song", "what is the name of this track"),
        kept=("Who sang Bohemian Rhapsody?", "What is a track?"),
    ),
)
