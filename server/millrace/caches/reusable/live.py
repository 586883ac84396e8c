"""Requests whose answer changes within a day: the time, weather, prices, traffic, news, scores, what is open.

What changes over months, such as who presides over a country or which phone is the best, may be kept for a day.
"""

from millrace.caches.reusable.rule import TIME, Rule, rule

_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december|spring|summer|autumn|winter"
)
_NOW = (
    r"(?:today|tonight|tomorrow|right now|now|currently|current|at the moment|this (?:morning|afternoon"
    r"|evening|week|weekend)|live|yet|still|latest)"
)
_FAST = (
    r"(?:time|date|day|weather|temperature|temp|conditions?|traffic|price|prices|rate|rates|value|score"
    r"|scores|standings?|status|news|headlines?|developments?"
    r"|updates?|location|position|balance|wait|delays?|situation|events?|trends?|polls?|odds|level|levels"
    r"|numbers?|count)"
)

RULES: tuple[Rule, ...] = (
    rule(
        "now and near days",
        TIME,
        "today tonight tomorrow yesterday now moment morning afternoon evening night week "
        "weekend month hour hours minutes ago tonite 2day "
        f"tmrw currently today's tonight's tomorrow's yesterday's {_DAYS.replace('|', ' ')}",
        r"\b(?:today|tonight|tonite|tomorrow|tmrw|yesterday|2day)\b|\bright now\b|\bat (?:the"
        r"|this) moment\b|(?:is|are|am|was|do|did)\b.*\bnow$"
        r"|^(?:what|who|where|which|is|are|how (?:is|are|much|many|hot|cold|warm"
        r"|busy))\b.* now\b(?! (?:that|a days|if|when|do|does|what|how))|\bright this (?:minute|second)\b"
        r"|\b(?:this|coming|next|last|past) (?:morning|afternoon|evening|night|week|weekend|month|quarter)\b(?! of\b)"
        r"|\b(?:in|during|over|within|for) the (?:last|past|next|coming) (?:\w+ )?(?:minutes?|hours?)\b(?! of\b)"
        rf"|\b(?:this|next|last|coming|on|by) (?:{_DAYS})\b(?! (?:the|night football|prayer))|\b(?:\d+|an?"
        rf"|two|three|few) (?:minutes?|hours?|days?|weeks?) ago\b",
        unless=r"\b(?:today's|in today's|of today's) (?:\w+ )?(?:world|society|age|market|era|generations?"
        r"|times?|life|economy|culture|youth)\b"
        r"|\b(?:if|when|what) .*\b(?:were|was) .*\btoday\b|\b(?:alive|exists?|live|lived?|used|use|works?"
        r"|relevant|history|still|modern|generation|people|society|famous|popular|important|youth|kids"
        r"|common)\b.*\btoday$"
        r"|\b(?:python|java|javascript|sql|excel|mysql|postgres|php)\b|^translate\b"
        r"|^who (?:sang|wrote|sings|composed|recorded|covered|performed)\b"
        r"|\bwhat does\b.*\bmean\b|\bday after tomorrow\b.*\b(?:movie|film)\b",
        refused=(
            "What happened this week?",
            "who is playing tonight",
            "Who is the president right now?",
            "what is open on sunday",
            "any earthquakes in the last hour",
        ),
        kept=(
            "How many days are in the last month of the year?",
            "Is slavery still common today?",
            "How do people find work in today's world?",
            "get yesterday's date in python",
        ),
    ),
    rule(
        "what to do now",
        TIME,
        "today tonight tomorrow now weekend",
        r"^(?:what|where|which|how long)\b.*\b(?:i|we|to (?:do|get|see|eat|wear|watch))\b.*\b(?:today"
        r"|tonight|tomorrow|right now|this weekend)$",
        general=True,
        refused=(
            "what should I wear tomorrow",
            "where can we go this weekend",
            "how long will it take to get to work right now",
        ),
        kept=("How do I get paid weekly?", "What do I do if my card is lost?"),
    ),
    rule(
        "the time and the date",
        TIME,
        "time date day year month o'clock clock noon midnight monday friday saturday sunday "
        "weekend hour countdown oclock",
        r"^(?:what|which) (?:time|day|date|year|month|hour)(?: of the (?:week|month|year))? (?:is (?:it"
        r"|this|the)|are we|it is|do we have|will it be|was it)\b"
        r"|^(?:is it|are we)\b.*\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|weekend|noon"
        r"|midnight|leap year|o'? ?clock|morning|afternoon|time (?:to|for)|\d+ ?(?:am|pm))\b(?: yet"
        r"| already| now)?$"
        r"|^(?:what is |what's |give me |the |check |say |show (?:me )?|name )*(?:the )?(?:current |exact "
        r"|local |right |present )?(?:time|date|day)(?: is it| it is| right now| now| please| today)?$"
        r"|^(?:what is |what was |give me |show me |check |the )*(?:the )?(?:current |exact "
        r"|local )?(?:time|date) (?:is )?(?:in|for|at|over in|here|now|on (?:the|my))\b(?! (?:python|java"
        r"|javascript|sql|c|linux|excel|complexity)\b)"
        r"|^(?:what )?the (?:time|date) (?:will be|is)\b|^(?:time|clock) (?:in|now)\b|^(?:the "
        r"|what is the )?(?:name of the )?(?:day|date) (?:of the week )?(?:today|now|is it)?$|^date$|^time$",
        unless=r"\b(?:complexity|what time is it (?:mr|in spanish|in french|called)|zone|best time|when|python"
        r"|java|javascript|sql)\b|\bwhat day is (?:christmas|halloween|easter|thanksgiving|valentine\w*"
        r"|independence)\b",
        refused=(
            "What time is it?",
            "time in Tokyo",
            "the date please",
            "is it friday yet",
            "what day of the week is it",
        ),
        kept=("What is the time complexity of merge sort?", "What time zone is Denver in?", "What day is Christmas?"),
    ),
    rule(
        "how long until",
        TIME,
        "until till til left before remain remaining countdown away since next",
        r"^how (?:many|much|long|far|soon|close)\b.*\b(?:until|till|til|left (?:in|before|to|until)"
        r"|away (?:is|are|from)|before (?:it|we|christmas|easter|summer|spring|the (?:end|weekend"
        r"|holidays?|next))|since)\b"
        r"|^how long (?:until|till|before)\b|\bcountdown\b|^(?:when|what(?: day| date)?)(?: is| are| does"
        r"| do| will)\b.*\bnext (?:\w+ )?(?:bus|train|flight|plane|ferry|subway|tram|game|match|race"
        r"|episode|holiday|day off|free day|eclipse|full moon|new moon|showing|show|class|session|tide"
        r"|meteor shower|event|concert|delivery|meeting|payday)\b"
        r"|^(?:the )?next (?:bus|train|flight|ferry|game|match|race|holiday|full moon|showing)\b",
        unless=r"\b(?:born|discovered|invented|dinosaurs|cooked?|done|ready|bad|expires?|boil|dies?|starving"
        r"|leaves? the body|rid|stale|rots?|wears? off|hatch\w*|heals?|dry|dries|ripe\w*|goes? (?:bad|off|flat)"
        r"|spoils?|melts?)\b",
        refused=(
            "How many days until Christmas?",
            "how long till new year's eve",
            "when is the next bus",
            "next train to Boston",
        ),
        kept=("How long until milk goes bad?", "How many days are in a year?"),
    ),
    rule(
        "the weather",
        TIME,
        "weather forecast temperature raining rain snow snowing sunny cloudy windy humid humidity "
        "umbrella jacket coat outside outdoors "
        "hot cold warm sunset sunrise sun moon pollen tide tides uv surf storm drizzle hail "
        "freezing degrees chilly precipitation air wether weathr smog aqi wind hurricane thunderstorm",
        rf"\b(?:weather|wether|weathr|forecast)\b(?!.*\b(?:{_MONTHS}|mean|affects?|cause[sd]?|radar|apps?"
        rf"|balloon|station|cock|vane|map symbols|climate|caused by|change|widget|strip)\b)"
        r"|^(?:is|was|will|is there|are there|has|does|could|might)\b.*\b(?:rain|raining|rainy|snow"
        r"|snowing|snowy|sunny|cloudy|windy|humid|storm|storms|storming|hail|hailing|drizzling"
        r"|thunderstorms?|freezing|chilly|foggy)\b(?!.*\b(?:mars|venus|ever|usually|normally|cause|affect"
        r"|mean)\b)"
        r"|^(?:what is|how (?:hot|cold|warm|humid|windy|chilly|wet|nice))\b.*\b(?:(?:temperature"
        r"|temp)(?: (?:in|at|outside|now|today|right|going|tomorrow|there|here|will|for)\b|$)|outside"
        r"|outdoors|(?:is|will) it (?:in|at|be|get|going|there|on|out))\b(?!.*\b(?:average|boiling|melting"
        r"|sun|body|core|earth|mars|venus|moon|oven|cook|safe|internal|surface|space|normal|freezing point"
        r"|in (?:january|february|march|april|may|june|july|august|september|october|november|december"
        r"|summer|winter))\b)"
        r"|\b(?:hot|cold|warm|nice|raining|snowing|like) (?:outside|outdoors|out)\b"
        r"|^(?:temperature|temp|humidity|wind|wind speed) (?:in|at|outside|for)\b|^current (?:temperature"
        r"|conditions)\b|^(?:what|how) is the (?:snow|surf|wind|sea|sky|water|air)(?: like| looking)?(?: (?:in|at"
        r"|on)\b.*|$)|\btemperature outside\b|\b(?:pollen|uv|aqi|air quality|humidity|snow"
        r"|surf)(?: (?:index|count|level|levels|report|conditions?))\b(?! (?:mean|work|scale))"
        r"|\bair quality\b(?= (?:in|at|like)|$)"
        r"|^(?:when|what time)\b.*\b(?:sunset|sunrise|sun (?:set|rise|go|come)s?|(?:high|low) tide"
        r"|moon ?(?:rise|set))\b|\btides?\b.*\b(?:at|doing|in)\b|^is (?:the|there a) (?:full )?(?:moon"
        r"|sun)\b.*\b(?:full|out|up|visible)\b",
        unless=r"\b(?:symbols?|icons?|emojis?|words?|average|typical(?:ly)?|usually|normally|how (?:do|does|is"
        r"|are) .*(?:formed|predicted|measured)|dog|dogs|cat|cats|baby|year round|climate"
        r"|under the weather|python|api|predict\w*|forecasting|demand|sales|what is (?:a|an|the (?:boiling"
        r"|melting|freezing|body|core|surface|normal|difference))|coldest|hottest|warmest)\b"
        r"|\bin (?:january|february|march|april|june|july|august|september|october|november|december"
        r"|summer|winter|autumn|spring)\b",
        refused=(
            "What's the weather like in Oslo?",
            "Is it raining in Seattle?",
            "how cold is it outside",
            "when is sunset",
        ),
        kept=(
            "What is the weather like in Oslo in July?",
            "How does weather radar work?",
            "What is the average temperature in Cairo?",
            "What is a cold front?",
        ),
    ),
    rule(
        "what to wear",
        TIME,
        "umbrella jacket coat sweater sunscreen raincoat",
        r"\b(?:i|we) (?:need|bring|wear|take)\b.*\b(?:umbrella|jacket|coat|sweater|sunscreen|raincoat)(?: (?:in|for"
        r"|at) (?!winter|summer|spring|autumn|fall"
        rf"|{_MONTHS}|the (?:winter|summer|rain)|case)\w+(?: \w+)?)?$",
        general=True,
        refused=("do I need an umbrella", "should I wear a coat"),
        kept=("Do I need sunscreen in winter?", "What is a raincoat made of?"),
    ),
    rule(
        "prices of the day",
        TIME,
        "stock stocks share shares bitcoin btc ethereum eth crypto cryptocurrency gold silver "
        "oil gas petrol diesel market dow nasdaq s&p ftse nikkei exchange "
        "usd eur gbp jpy dollar dollars euro euros pound pounds yen yuan rupee rupees peso "
        "pesos rate rates mortgage airfare flight flights ticket tickets fares price prices "
        "worth trading currency dogecoin sensex nifty index futures",
        r"\b(?:stock|share|bitcoin|btc|ethereum|eth|crypto\w*|dogecoin|gold|silver|oil|crude|gas|petrol"
        r"|diesel|fuel) (?:prices?|value|quotes?|futures)\b(?!.*\b(?:rise|rises|affect|determine[sd]?|set"
        r"|history|fall|so high|work|differ|calculated|mean|19\d\d|200\d|201\d)\b)"
        r"|\b(?:price|value|cost|worth) of (?:an? |one |the )?(?:bitcoin|btc|ethereum|eth|gold|silver"
        r"|crude|oil|gas|petrol|diesel|\w+ (?:stock|stocks|shares?))\b|^how much (?:is|are|does"
        r"|do)\b.*\b(?:bitcoins?|btc|ethereum|dogecoin|gold|silver|(?:\w+ )?(?:stocks?|shares?)|gas|petrol"
        r"|diesel)\b.*(?:$|\b(?:worth|today|per|cost|trading|going|at|now)\b)"
        r"|\b(?:stock market|the markets?|dow(?: jones)?|nasdaq|s ?&? ?p ?500|ftse|nikkei|sensex"
        r"|nifty)\b(?=.*\b(?:doing|today|up|down|at|open|now|close|closed|looking|trading)\b"
        r"|$)(?!.*\b(?:crash|how does|what is a|invest|explain|fails?|history)\b)|^(?:what|where"
        r"|how) (?:is|are|did) .*\b(?:trading|stocks?|shares?) (?:at|doing|for)?$"
        r"|^(?:how|what|is|are|where|the|(?:if|whether))\b.*\b(?:dollar|euro|pound|yen|yuan|rupee|peso|ruble|lira"
        r"|franc|rand)\b(?: \w+){0,2}? (?:doing"
        r"|stands?|standing|trading|against|versus|up|down|strong|weak)\b"
        r"|^how much\b.*\b(?:barrel|ounce|gram|kilo|gallon|lit(?:er|re)|ton|tonne)s? of (?:crude|oil|gold|silver|gas"
        r"|petrol|diesel|copper|platinum)\b(?=.*\b(?:going|cost|worth|trading|price|now)\b|$)"
        r"|\bexchange rates?\b(?!.*\b(?:affect|mean|determine[sd]?|policy|system|wrong|incorrect|not right"
        r"|bad|work|calculated|applied|used|use|decide[ds]?|get|acquire|come|change|set)\b)|^(?:convert "
        r"|change |how much (?:is|are) |how many |what is |what are )?(?:[\d.,]+ |an? |one )?(?:us "
        r"|american |canadian |mexican |british |australian |japanese |indian )?(?:usd|eur|gbp|jpy|inr|cad"
        r"|aud|dollars?|euros?|pounds?|yen|yuan|rupees?|pesos?|francs?|rubles?|won)\b.*\b(?:to|in|into|is"
        r"|are|worth|equal|for|from)\b.*\b(?:usd|eur|gbp|jpy|inr|cad|aud|dollars?|euros?|pounds?|sterling"
        r"|yen|yuan|rupees?|pesos?|francs?|rubles?|won|currency)\b"
        r"|\b(?:current|today's|latest|best|going) (?:\w+ )?(?:interest|mortgage|exchange|refinance"
        r"|savings|loan|conversion) rates?\b|^(?:cheapest|cheap|lowest|best|find|search|show|look|any"
        r"|are there|list|compare)\b.*\b(?:flights?|airfares?|fares|plane tickets?"
        r"|train tickets?)\b(?=.*\b(?:to|from)\b)|\b(?:price|cost) of (?:a )?(?:flight|ticket)s? (?:to"
        r"|from)\b|^how much (?:is|are) (?:an? )?(?:flights?|plane tickets?|airfare) (?:to|from)\b",
        unless=r"\b(?:determin\w+|based on|base|get (?:your|the)|getting (?:your|the)|exchange rates$|difference"
        r"|an exchange rate|history|(?:kilos?|kilograms?|kg|lbs?|ounces?|grams?|stone)|how do|why|explain"
        r"|gold medal|python|java|price elasticity|if|should i|natural gas prices affect|predict)\b",
        refused=(
            "How is the stock market doing?",
            "tesla stock price",
            "how much is one bitcoin worth",
            "convert 50 euros to dollars",
            "cheapest flight from Boston to Denver",
        ),
        kept=(
            "How do stocks work?",
            "What determines the price of gold?",
            "How much is a heat pump?",
            "Convert 5 pounds to kilograms",
            "Why is the exchange rate wrong?",
        ),
    ),
    rule(
        "traffic and timetables",
        TIME,
        "traffic commute accidents accident delays delay delayed flight train bus plane subway "
        "metro ferry route road roads jam congestion gate parking park late arrive arrived arrives "
        "land landed running "
        "construction strike strikes disruption disruptions closures cancellations detour crowded busy wait line "
        "full queue crowd",
        r"\btraffic\b(?! (?:light|lights|ticket|tickets|law|laws|rules?|signs?|cones?|signals?|police|stop"
        r"|stops|jams? (?:form|happen)|engineer\w*|control|court|school|violations?|management"
        r"|cop))(?!.*\b(?:website|web|site|blog|seo|organic|network|packets?|cause[sd]?|why"
        r"|google analytics|drug|human|youtube|page|increase|drive|visitors)\b)"
        r"|^(?:any|are there|is there|what are the)\b.*\b(?:accidents?|delays?|strikes?|disruptions?|closures?"
        r"|cancellations?|congestion|construction"
        r"|detours?|road closures?|backups?)\b|\b(?:on|for|of|about|with|status of|is|did|has|will"
        r"|when)\b.*\b(?:flight|train|bus|plane) (?:[a-z]{0,3} ?\d+|to \w+ )?.*\b(?:on time|delayed|late"
        r"|arrived?|arrives|landed|land|lands|leave|leaves|depart|departs|board|boarding|running|status"
        r"|cancell?ed)\b"
        r"|\bflight status\b|^(?:status|where is|track|what gate|which gate)\b.*\b(?:flight|train|bus"
        r"|plane)\b|\bgate\b.*\bflight\b|^how (?:(?:busy|crowded|full) (?:is|will|does)"
        r"|long is the (?:wait|line|queue))\b"
        r"|^(?:what|how) (?:is|are) the (?:wait|line|queue)s?(?: like)? (?:at|in|for)\b"
        r"|\bhow long (?:is|are) the (?:waits?|lines?|queues?)\b|^(?:is|are|will)\b.*\b(?:busy|crowded"
        r"|packed|full|running late|on time|booked up)\b(?:$| (?:at|on|after|before|around|right|now"
        r"|in the)\b)"
        r"|\bwait times?\b(?! (?:for (?:a|an|my) (?:transfer|refund|card|payment|visa)))"
        r"|\bhow long .*\b(?:to get|to drive|will it take)\b.*\b(?:right now|now|with traffic|from here"
        r"|in traffic)\b|\b(?:my|the) (?:commute|drive|way|route) (?:to work|home|looking|look)\b",
        unless=r"\b(?:compensation|claim|rights|refund|what is a|why do|how are|electric|good for|train (?:a|an"
        r"|my|your)"
        r"|personal train\w*|model|full (?:time|of|stack|form|moon|frame)|is it full)\b",
        refused=(
            "How is traffic on I-95?",
            "Is flight UA 212 on time?",
            "how busy is the gym",
            "what is the queue like at security",
            "any delays on the subway",
            "is my train running late",
        ),
        kept=("What causes traffic jams?", "How do I get more traffic to my website?", "What is a traffic light?"),
    ),
    rule(
        "one flight",
        TIME,
        "flight boarding gate",
        r"\bflight(?: number)? [a-z]{0,3} ?\d{2,4}\b|\b(?:when|what time) (?:is|does) (?:the )?boarding\b"
        r"|\bboarding (?:time|scheduled)\b",
        general=True,
        unless=r"\b(?:crash|crashed|disappear\w*|happened to (?:malaysia|flight (?:370|mh370))|mh370|history|movie)\b",
        refused=("what can you tell me about flight dl123", "has flight ba 12 left", "what time is boarding"),
        kept=("What happened to Malaysia flight 370 when it crashed?", "What is boarding school like?"),
    ),
    rule(
        "news and scores",
        TIME,
        "news headlines headline score scores winning won win game match playing plays play "
        "saying talking tweeting started begun begin start ended end finished stopped opened closed arrived left "
        "leading ahead losing top charts chart league table standings leaderboard trending trends polls election "
        "happening happened latest current currently recent "
        "update updates new standings beat lost "
        "up-to-date breaking viral outcome results result well smoothly",
        r"\b(?:latest|recent|current|breaking|today's|live|local|world|sports?|any|the|some"
        r"|more) (?:\w+ )?(?:news|headlines?)\b(?! (?:channel|paper|anchor|site|sites|websites?|apps?"
        r"|agency|feed algorithm|source|sources|article))|^(?:\w+ )?(?:news|headlines)\b(?: (?:about|on"
        r"|from|in|for|please)\b|$)|^(?:what|which|any)\b.*\b(?:news|headlines)\b(?! (?:channel|paper"
        r"|sites?|websites?|apps?|agency|sources?|articles?|anchors?))|\bin the news\b|\bthe news\b$"
        r"|\b(?:score|scores|result|results|outcome) (?:of|in|for|from) (?!an? )(?:the |last |today's "
        r"|this )?.*\b(?:game|match|race|fight|cup|final|series|election)\b(?!.*\b(?:18|19|20)\d\d\b)"
        r"|^(?:what is|what was|give|get|check|who has|final)\b.*\bscores?\b(?!.*\b(?:credit|sat|gre|act"
        r"|toefl|ielts|good|average|apgar|film|movie|music|highest|perfect|need|means?|required|z|test|iq"
        r"|cut|cibil|fico)\b)|^(?:who|which team) (?:is|are) (?:winning|ahead|leading|losing|playing)\b|^(?:who|what"
        r"|which (?:\w+ )?(?:team|song|movie|film|book|player)) (?:is|are) (?:at |on )?(?:the )?(?:number one|no 1"
        r"|#1|1st|first|top|bottom|leading)"
        r"\b.*\b(?:charts?|league|table|standings|leaderboard|rankings?|billboard|box office|group)\b|^who (?:won"
        r"|beat|lost|scored)\b.*\b(?:game|match|fight|race)$|\b(?:did|have|has) (?:the )?(?:\w+ ){1,3}(?:win|won"
        r"|lose|lost|play|played|beat|score|scored)$|^(?:when|where|what time|who) (?:do|does|are"
        r"|is) (?:the )?(?:\w+ ){1,3}(?:play|playing)(?: next| in| against)?$"
        r"|^(?:what is|what are|what's|is|show)\b.*\b(?:trending|viral|going on in the world"
        r"|going viral)\b|\bwhat is (?:happening|going on|new|up)(?: (?:in|with|around|at) (?!a |my "
        r"|the brain|the body)\w+.*)?$|\b(?:anything|something|what is) new\b(?: (?:about|on|with|in)\b|$)"
        r"|\b(?:the )?latest (?:on|about|from|in|with)\b(?! time\b)"
        r"|^(?:has|have|did) the \w+ (?:started|begun|begin|start|ended|end|finished|stopped|opened|closed|arrived"
        r"|left)(?: (?:yet|already))?$"
        r"|^what (?:is everyone|are (?:people|they|critics|fans)) (?:saying|talking|tweeting)\b"
        rf"|\b(?:current|latest|live|most recent|up-to-date|real-?time) (?:\w+ )?{_FAST}\b(?!.*\b(?:python"
        rf"|java|javascript|sql|excel|c#|php|linux|git|electric|ohm)\b)|\b(?:ahead|leads?|leading"
        rf"|doing) in the polls\b|^did the (?:[\w-]+ ){{1,2}}go (?:well|ok|okay|fine|smoothly|through)\b",
        unless=r"\b(?:javascript|python|java|sql|excel|php|c#)\b|\bgood (?:credit )?scores?\b|\b(?:credit|test"
        r"|sat|ielts|gre|toefl|act|apgar) scores?\b(?! (?:my|mine))|\b(?:fake news|what is a (?:headline"
        r"|news)|how to write|write (?:a|an)|fox news|good news for|yellow journalism|current (?:account"
        r"|value of|rating|level of))\b|\bhow (?:does|do|is|are)\b.*\bscor(?:es?|ed|ing)\b",
        refused=(
            "What's in the news?",
            "who's winning",
            "what's trending on Twitter",
            "latest on the strike",
            "which candidates lead in the polls",
            "did the launch go well",
            "what is the current price of silver",
        ),
        kept=(
            "Who won the 1998 world cup?",
            "Why did the launch go well?",
            "Who is the president of France?",
            "What does breaking news mean?",
            "What is a good credit score?",
        ),
    ),
    rule(
        "the newest version",
        TIME,
        "version versions release releases build firmware patch",
        r"^(?:(?:what|which|when|is|has|the|tell|give|show|check|whats)\b.*\b)?(?:latest|newest|current|most recent"
        r"|up-to-date|last)\b (?:[\w.+#-]+ ){0,3}?(?:versions?|releases?|build|firmware|patch)\b(?! (?:control"
        r"|number format))"
        r"|^(?:what|which) (?:version|release) (?:of )?[\w.+#-]+(?: [\w.+#-]+)? is (?:the )?(?:current|latest|newest"
        r"|out|stable)\b|^(?:what|which)(?: is the)? version is [\w.+#-]+ (?:at|on|up to)$",
        unless=r"\b(?:difference|lts mean|mean by|support|supports|compatible)\b",
        refused=("What is the latest version of Python?", "newest release of node", "which version of go is current"),
        kept=("How do I install the latest version of node?", "update node to the latest version"),
    ),
    rule(
        "counts and decisions of the day",
        TIME,
        "subscribers followers views likes streams downloads stars viewers jackpot fed ecb senate congress "
        "parliament government court",
        r"^how many (?:\w+ )?(?:subscribers|followers|views|likes|streams|downloads|stars|viewers)\b.*\b(?:do|does"
        r"|have|has|are|is)\b|^(?:what|how (?:much|big|high))\b.*\bjackpot\b"
        r"|^(?:did|has|have|will|is|are)\b(?: the)? (?:\w+ )?(?:fed|ecb|senate|congress|parliament|government"
        r"|court)\b.*\b(?:rais|cut|lower|pass|vot|approv|decid|announc|rul|reject|agree|hik|increas|hold|held)\w*\b",
        unless=r"\b(?:need|needed|to get|to be|qualify|monetize|youtube pay|good|ever|allowed|able|\d{4}|usually"
        r"|normally)\b",
        refused=("how many subscribers does the channel have", "did the fed raise rates", "how big is the jackpot"),
        kept=("How many subscribers do I need to be paid?", "How does the fed raise rates?"),
    ),
    rule(
        "what is on, open or to be had",
        TIME,
        "open closed movies movie theaters theatres theater cinema cinemas showtimes showing tv "
        "stock available availability tickets seats rooms down outage outages events concert sold "
        "having experiencing playing near online up film films specials deals game concerts happening",
        r"^(?:is|are|will)\b.*\b(?:open|closed)\b(?:$| (?:yet|now|still|right|on(?! (?:\w+days|weekends|(?:public "
        r"|bank )?holidays)\b)|at|late|for|past"
        r"|until|till|after|before|sunday)\b)(?!.*\b(?:source|minded|mouth|eyes?|door|heart|fracture"
        r"|relationship|set|interval|book)\b)"
        r"|\b(?:movies?|films?|shows?)\b.*\b(?:playing|showing|in (?:the )?(?:theat(?:er|re)s?|cinemas?)"
        r"|out)\b|\bshowtimes?\b|\b(?:what|anything) (?:is )?(?:good )?(?:on|playing at|showing at) (?:tv"
        r"|television|the (?:cinema|theater|theatre|movies|radio|telly)|netflix|channel)\b|\bplaying (?:at"
        r"|in) the (?:cinema|theat(?:er|re)s?|movies)\b"
        r"|\bin stock\b|^(?:is|are|do|any|does)\b.*\b(?:available|availability|sold out|left|tickets|rooms"
        r"|seats)\b(?=.*\b(?:for|on|left|at|available|tickets)\b|$)(?!.*\b(?:in (?:india|europe|english"
        r"|python|java|android)|over the counter|online for free|cure|treatment|vaccine)\b)"
        r"|^is (?:the |my )?[\w.]+ (?:down|offline|up|(?:having|experiencing) (?:issues|problems|trouble"
        r"|difficulties|an outage))\b$"
        r"|\boutages?\b(?= (?:in|near|at|right|now)|$)|\bevents? (?:near|in|this|going|happening"
        r"|around)\b(?!.*\b(?:history|18|19|20\d\d|in (?:the|a) )\b)|\bwho is online\b|\b(?:deals?"
        r"|specials?) (?:at|today|right|on now)\b",
        unless=r"\b(?:javascript|js|css|java|python|android|unity|sql|probability|event (?:loop|listener"
        r"|handler)s?|syndrome|\d{4}|down to earth|visa|historical|major|notable|hashtag|open (?:to"
        r"|for) interpretation|all time|watch when|laid off)\b",
        refused=(
            "Which movies are in theaters?",
            "is Starbucks open now",
            "is the PS5 in stock",
            "is github down",
            "what's on tv",
        ),
        kept=(
            "Is Linux open source?",
            "How do I find out if a website is down?",
            "What are some good movies to watch when bored?",
        ),
    ),
)
