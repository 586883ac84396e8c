"""Requests to have something done in the world, or to change how the assistant or a device behaves.

A verb that opens a request, by what it is done to. The same words after "how do I" are a question (`reading`), and
beside the name of a program they are a search (`rule`).
"""

from millrace.caches.reusable.rule import DONE, Rule, deed, rule

_PEOPLE = (
    "mom, mum, dad, mother, father, wife, husband, boss, sister, brother, him, her, "
    "them, grandma, boyfriend, girlfriend, doctor, landlord"
)

RULES: tuple[Rule, ...] = (
    rule(
        "wanted",
        DONE,
        "timer alarm reminder reminders reminded appointment uber taxi cab flight hotel table room "
        "reservation checkbook checkbooks checks ride voice stay meeting "
        "ordered booked frozen locked blocked closed paid set added song songs music",
        r"^(?:to be |a |an |another |some |more |new |my |the |one )*(?:[\w-]+ ){0,3}?(?:timer|alarm"
        r"|reminders?|reminded|appointment|uber|taxi|cab|hotel|table (?:for|at)|room (?:for|in|at)"
        r"|reservation|checkbooks?|(?:new |more |some )checks"
        r"|ride (?:to|home|from)|(?:male|female|other|different) voice|place to stay|meeting room|songs?|music)\b"
        r"|\b(?:account|card|bill|bills|alarm|timer|milk|eggs|lights?|phone)\b.*\b(?:to be |be "
        r"|get )?(?:frozen|locked|blocked|closed|paid|added|set|ordered|booked|synced|connected|paired"
        r"|tracked|deleted)\b",
        moods="wish you",
        unless=r"\b(?:how|why|what|when|which|where|fix|write|explain|recommend|suggest|advice|theory|report"
        r"|definition|about|because|template|idea|ideas|name|names|declined)\b|^(?:to )?(?:learn|make|know"
        r"|understand)\b",
        refused=(
            "I need a timer for ten minutes",
            "can i get a table for four",
            "i'd like my account frozen",
            "I want the female voice",
        ),
        kept=("I need advice on a hotel business", "How do I get an appointment at the embassy?"),
    ),
    rule(
        "wanted no more, or to be done",
        DONE,
        "need needs want wanted",
        r"\b(?:not|no longer|never)\b(?: \w+){0,2} (?:need|needs|want|wanted)\b.*\b(?:reservation|list"
        r"|synced|paired|appointment|meeting|subscription|anymore)\b"
        r"|^(?!how|why|what|does|do|if).*\bneeds? to be (?:frozen|locked|blocked|paid|closed|reset"
        r"|cancell?ed|added|synced|deleted|clear(?:ed)?)\b",
        general=True,
        unless=r"\b(?:how|why|what|lose|weight|love|friend|live)\b",
        refused=(
            "I no longer want my reservation",
            "my account needs to be frozen",
            "i don't need the dinner reservation anymore",
        ),
        kept=("Why do people not want children anymore?", "What needs to be paid at closing?"),
    ),
    rule(
        "tell someone",
        DONE,
        "let alert inform notify tell assure",
        r"\b(?:let|alert|inform|notify|tell|assure) my (?:bank|boss|wife|husband|mom|mother|dad|father"
        r"|friends?|team|manager|landlord|brother|sister|coworkers?)\b(?! (?:about|how|that i (?:am"
        r"|was) (?:gay|pregnant)))",
        general=True,
        unless=r"\b(?:how|should|what|why|when|ways?|can i|if i|do i)\b",
        refused=("i will be traveling to lima, alert my bank", "I'm leaving tomorrow and need to let my bank know"),
        kept=("How do I tell my boss that I quit?", "Should I tell my parents about my grades?"),
    ),
    rule(
        "names, voices and songs, asked politely",
        DONE,
        "you your voice song german english spanish french language talk speak talking skip next",
        r"\b(?:rename|calling) you\b|\bcall you (?!a |an |if|when|at|back|on|$)\w+|\byour name (?:to|be"
        r"|is (?:now|going))\b|^(?:can|could|may|might|shall) (?:we|i) (?:please )?(?:speak|talk|chat"
        r"|converse|use|switch)\b.*\b(?:in|to|spanish|german|english|french|dutch|italian|russian|chinese"
        r"|mandarin|language)\b(?! (?:a|an|someone|the|your manager))"
        r"|\b(?:change|changing|speed|slow|raise|lower|alter|switch)\b.*\byour (?:\w+ )?(?:voice|accent"
        r"|language|speed|speech|tone)\b|\bmake you (?:talk|speak|sound)\b|\byou (?:are )?(?:talk|talking"
        r"|speak|speaking) (?:so|too|to)\b|\b(?:next|skip this|skip the) song\b|\bsong (?:now|next)\b",
        general=True,
        refused=(
            "can we change your name to Clara",
            "can i call you Arnold instead",
            "may we go to the next song",
            "can we speak in German",
        ),
        kept=("What should I call you?", "What languages can you speak?", "can I use a VPN in China"),
    ),
    deed(
        "alarms, timers and reminders",
        "set start stop pause resume cancel create make add delete snooze remove turn put begin "
        "reset get restart end clear have need",
        "alarm, timer, reminder, stopwatch, countdown, wake up call",
        unless="false alarm, fire alarm, smoke alarm, 555, circuit, clock with",
        refused=("Set a timer for ten minutes", "start the stopwatch", "I want to set an alarm", "cancel the alarm"),
        kept=("How do I set a timer on my oven?", "set a timer in javascript"),
    ),
    deed(
        "remind me",
        "remind wake ping notify alert warn",
        "me, us, my, our",
        refused=("Remind me to call mom at six", "wake me up at 6:30", "alert my bank that I travel"),
        kept=("What is a wake?", "How do I remind my team politely?"),
    ),
    deed(
        "keep in mind",
        "take note jot memorize remember forget",
        "a note, a memo, note that, to self, down, that my, that i, to tell me, not forget, what i, everything",
        unless="this equation, notes in class",
        refused=("take a note: buy stamps", "remember that my wife's name is Ann", "forget what I said"),
        kept=("How do I remember names?", "take home pay meaning"),
    ),
    deed(
        "calendars, lists and appointments",
        "set add put create make remove delete erase clear move schedule reschedule cancel "
        "cross take invite book mark include tack "
        "postpone empty change push update block arrange strike drop check wipe replace insert "
        "throw reserve confirm get",
        "calendar, agenda, my schedule, the schedule, appointment, meeting, conference room, to "
        "do list, todo list, to-do list, shopping list,"
        "grocery list, my list, the list, playlist, wish list, favorites, event, call with, "
        "maintenance, tune up, oil changed, checked out",
        unless="event listener, event handler, linked list, meeting notes, meeting agenda",
        refused=(
            "put dentist on my calendar for Friday",
            "add eggs to the shopping list",
            "schedule a meeting with Eve",
        ),
        kept=(
            "How do I schedule a meeting in Outlook?",
            "create a linked list in c",
            "create a study schedule for finals",
        ),
    ),
    deed(
        "play",
        "play replay queue unpause",
        unless="store, chess, poker, guitar, piano, violin, drums, football, soccer, cricket, tennis, basketball, "
        "golf, the stock market, the lottery,"
        "role, on words, station, dough, therapy, video games, online games, game of thrones, "
        "with fire, checkers, go, bridge, music theory",
        refused=(
            "Play some jazz",
            "play the next episode",
            "play the song called baby shark",
            "Could you play it again?",
        ),
        kept=("play store not working", "How do I play chess?", "play chess against a computer"),
    ),
    deed(
        "songs and videos",
        "skip next previous pause resume shuffle repeat stop rewind replay start put listen "
        "hear stream forward move go change pull add include get fast find drop",
        "song, music, track, playlist, album, jazz, podcast, episode, video, movie, radio, tune, "
        "spotify, netflix, ahead, seconds, forward, channel, playing, tunes, beats, country hits",
        unless="resume template, background music, from a video, lyrics, hair, stop music from, a podcast, sign",
        refused=("next song", "skip this track", "pause the music", "skip ahead thirty seconds", "shuffle my playlist"),
        kept=("How do I repeat a video on YouTube?", "resume format for nurses"),
    ),
    deed(
        "lights, doors and machines",
        "turn switch dim brighten lock unlock shut start stop raise lower increase decrease "
        "adjust mute unmute vacuum preheat warm cool heat "
        "set put make keep activate deactivate enable disable arm disarm power crank bring close "
        "open run feed water lights light drop",
        "light, lamp, lights on, lights off, tv, television, thermostat, heating, heater, "
        "heat, ac, air conditioning, air conditioner, fan, oven, stove, microwave,"
        "dishwasher, washer, washing machine, dryer, kettle, coffee maker, roomba, sprinkler, blind, "
        "curtain, shade, garage, front door, back door, the door, door,"
        "the gate, window, the room, this room, bedroom, kitchen, bathroom, living room, hallway, "
        "volume, sound, speaker, microphone, mic, camera, bluetooth, wifi,"
        "airplane mode, dark mode, night mode, do not disturb, flashlight, brightness, screen, "
        "security system, decibel level, the car, my car, the engine,"
        "the computer, degree, percent, louder, quieter, warmer, cooler, brighter, the dog, "
        "the cat, it up, it down, it off, it on, everything off, off, the plants",
        unless="a business, a restaurant, windows 10, windows 11, bulb types, lock screen, not working, "
        "best, running water, cool a, boil, off debt, off topic, a screen door,"
        "off the grid, years, interest, make a, start a car company, stop light, off season, off road, a blog",
        refused=(
            "Turn on the lights",
            "lights off",
            "set the thermostat to 70 degrees",
            "lock the front door",
            "pls mute the tv",
        ),
        kept=(
            "What is a smart home?",
            "Turn off dark mode in Chrome",
            "light bulb types",
            "mute button not working on zoom",
        ),
    ),
    rule(
        "volume and modes",
        DONE,
        "volume louder quieter mute unmute snooze whisper softer slower faster brightness timer alarm next skip",
        r"^(?:volume|brightness)(?: (?:up|down|to|at|level|higher|lower|\d).*)?$|^(?:speak |talk "
        r"|be )?(?:louder|quieter|softer|slower|faster)(?: please)?$"
        r"|^(?:mute|unmute|snooze|skip|next)(?: (?:it|this|that|please|song|track|one|alarm))*$"
        r"|\bwhisper mode\b"
        r"|^(?:speak|talk|answer|respond)(?: to me| with me| back)?(?: in| using)? (?:spanish|german"
        r"|french|english|italian|dutch|russian|chinese|mandarin|japanese|portuguese|hindi|tagalog|korean"
        r"|arabic)(?: (?:please|now|only|from now on|to me))*$|^(?:a )?(?:\d+ \w+ )?(?:timer"
        r"|alarm)(?: (?:for|at|in|on|off) .*)?$",
        refused=("volume up", "louder please", "mute", "turn whisper mode off", "timer for 5 minutes"),
        kept=("What is the loudest volume a human can bear?", "volume of a sphere"),
    ),
    deed(
        "call",
        "call dial facetime",
        unless="a function, a method, a stored procedure, an api, by reference, by value, for "
        "papers, stack, center, option, of duty, to action, to prayer, it a day, it quits, "
        "volatile, a class, vs, number format, yourself a, yourself an",
        refused=("Call mom", "dial 555 0134", "call a taxi"),
        kept=("call by reference explained", "call option vs put option", "call a function from another file"),
    ),
    deed(
        "text",
        "text",
        unless="to speech, align, box, mining, wrap, editor, file, field, decoration, classification, "
        "message meaning, etiquette, analysis, a landline, color, "
        "font, size, generation, summarization,overflow",
        refused=("text Anna that I'm late", "text dave, i'll be there soon"),
        kept=("text to speech software", "text align center css"),
    ),
    deed(
        "send and share",
        "send invite email message mail forward reply respond post tweet share phone ring "
        "tell ask contact page let inform assure answer make place give shoot drop say",
        "to the call, to the meeting, location with, my location, the location, an email, a message, "
        "a text, a note, a letter to, flowers, this email, this to, it to, that to, to my, "
        "to john, to the team, my boss, on facebook, on twitter, on instagram, to my story,"
        "my bank, the bank, a call, a phone call, a ring, yes to, no to, that i, that we, that "
        "he, that she, that the, that it, that they, i am, i will, we are, to kate, to tom, "
        "a photo, whole team, everyone, my location available," + _PEOPLE,
        unless="cover letter, post request, get request, tell me, tell us, tell if, what, how, say "
        "that, sample, template, write, give an example, make a case, difference, apart, give me, give us",
        refused=(
            "send a message to John",
            "email my boss that I am sick",
            "Forward this email to the whole team",
            "let my bank know I'm in Ireland",
            "share my location with Tom",
        ),
        kept=(
            "send post request curl",
            "How do I send an email with attachments?",
            "tell me about the french revolution",
        ),
    ),
    deed(
        "reply",
        "reply respond answer",
        "to [a-z]+ and, to [a-z]+$, to [a-z]+ (?:that|with|saying), to (?:him|her|them|everyone|all)",
        unless="how, what, job offer, rejection, template, example, sample, to questions, to changes, to stress, to "
        "treatment",
        refused=("reply to sam and say thanks", "respond to her that I agree"),
        kept=("How do I reply to a job offer?", "reply to a rejection email"),
    ),
    deed(
        "book and order",
        "book reserve order reorder buy purchase preorder rent hail",
        unless="recommendation, review, club, report, about, of, on tape, summary, value, bank, "
        "by, in, matters, form, a house, a home, a used, a new car, business, a domain, "
        "property, land, vs, and hold, now pay, low, purchase order, price, agreement, control, law, cheap,"
        "requirement, currency, best, numbers, a gun, stock, on margin, cookie, cover, pdf, checklist, or",
        refused=(
            "Book a flight to Rome",
            "reserve a table for four",
            "order pizza",
            "buy more paper towels",
            "rent a car for Friday",
        ),
        kept=(
            "order of operations",
            "How do I book a flight with points?",
            "buy a house with bad credit",
            "book recommendations",
        ),
    ),
    deed(
        "rides, tables and rooms",
        "get find need want return make book call request schedule order have cancel confirm verify "
        "change modify put place pick hire reserve use take arrange",
        "uber, lyft, taxi, cab, rental car, car rental, suv, a ride, flight, hotel, room "
        "for, table for, table at, reservation, plane ticket, ticket to, ticket for, takeout, "
        "delivery, parking spot, parking space, my last order, my order, my last order, the "
        "order, order of, order for, checkbook, more checks, new checks",
        unless="points, number format, business, insurance, html, kids, policy, simulator, delivery "
        "date, delivery pain, flight delay, cheap, refund, write",
        refused=("get me an uber", "book a cab to the station", "make a reservation for two", "cancel my order"),
        kept=("How do I find a cheap hotel?", "What is a table for?"),
    ),
    deed(
        "money",
        "pay transfer send move paying moving transferring sending deposit withdraw donate "
        "wire put top make shift sell invest",
        "money, dollar, buck, euro, bill, rent, cash, fund, a payment, payment on, payment towards, "
        "quid, rupee, yen, peso, franc, a transfer, a deposit, a donation, to savings, to checking, savings, checking, "
        "between my accounts, accounts, my card, this check, transit card, mortgage payment, car "
        "payment, \\d+ shares, bitcoin, to my landlord",
        unless="how, why, make money, save money, make a fund, off debt, fee, gap, stub, attention, "
        "401k, write, transfer rna, in python, money online, rent or buy, bill of, bill for, on a mortgage",
        refused=(
            "Pay my electricity bill",
            "transfer 100 dollars to savings",
            "send 20 bucks to Joe",
            "put 20 euros on my transit card",
        ),
        kept=(
            "How do I transfer money abroad?",
            "pay gap explained",
            "I need to transfer my 401k",
            "make money online",
        ),
    ),
    deed(
        "my accounts",
        "change update reset cancel close delete remove freeze unfreeze force allow place "
        "block unblock lock unlock activate deactivate reactivate enroll upgrade downgrade increase "
        "raise lower disable "
        "enable renew suspend terminate register edit replace put turn send open order erase stop "
        "modify set revert dispute report submit approve",
        "my name, name, a block on, a hold on, my account, my bank account, account closed, "
        "my card, my credit card, my new card, my debit card, my subscription, my membership, "
        "my address, my phone number, my email address, my password, my pin, my username, my profile, "
        "my name to, name to, my limit to, to my account, all access, this account, my data, "
        "my messages, my booking, my request, my reservation, my purchase, the transaction, my transfer, "
        "the transfer, my timesheet, my expense report, the request, me a card, me a physical card, "
        "me my card, factory settings, all settings, original settings, factory set, factory default, "
        "original config, original setting, original one, original set, my settings",
        unless="where, how, why, what, procedure, lost card, stolen card, on (?:facebook|instagram|gmail|snapchat"
        "|twitter|linkedin|google|amazon|netflix|whatsapp), direct deposit, report, in case",
        refused=(
            "cancel my subscription",
            "freeze my card",
            "reset my password for me",
            "change my address to 12 Oak Street",
            "please delete my account",
        ),
        kept=(
            "How do I cancel my subscription?",
            "can I freeze my account",
            "reset iphone",
            "I want to delete my account. How do I do that?",
        ),
    ),
    deed(
        "sign up and log out",
        "sign log enroll unsubscribe subscribe register connect transfer escalate let speak talk get put",
        "me up, me in, me out, us up, me for, me to, us to, enroll me, unsubscribe me, "
        "a human, a person, a real person, an agent, agent, a representative, your manager, "
        "a manager, a supervisor, customer service, live agent, an operator",
        unless="how, teach me, show me, get me started, put me to, in public",
        refused=(
            "log me out everywhere",
            "sign me up for the newsletter",
            "connect me to an agent",
            "let me talk to a person",
        ),
        kept=("How do I speak to an agent?", "log in problems on zoom"),
    ),
    deed(
        "the assistant itself",
        "call speak talk use change address refer whisper respond answer be shut slow speed "
        "start switch reboot restart begin keep alter adopt rename try set make put leave enter "
        "turn reset lower raise adjust hear like",
        "me by, me from, calling me, calling you, your name, accent, voice, to me in, from "
        "now on, slower, slowly, faster, fast, louder, quieter, softer, quiet, silent, talking, "
        "speaking, in spanish, in english, in french, in german, in dutch, in tagalog, in italian, "
        "in russian, in chinese, in mandarin, in japanese, in portuguese, speak spanish, "
        "speak german, speak french, speak english, the language, your language, language to, "
        "whisper, yourself, speech, you max, "
        "what you are doing, that now, listening",
        unless="yourself a, yourself an, accent mark, accent wall, accent color, accent chair, public, "
        "fluently, voice acting, "
        "passive voice, active voice, your period, write, up a, up at, start up, up with, "
        "essay, my voice, wake up, set up, up to, hand, in essays",
        refused=(
            "change your name to Max",
            "speak Spanish from now on to me in Spanish",
            "use a British accent",
            "be quiet",
            "change your voice",
        ),
        kept=("How do I speak louder in public?", "What is an accent mark?", "speak english fluently"),
    ),
    deed(
        "what it is doing",
        "stop cancel end undo ignore abort quit kill finish halt revert",
        "talking, speaking, processing, listening, the process, this process, the current, the task, "
        "this task, the last, previous, that "
        "request, this request, the request, the action, that, this, what you, now, it, (?:process|job|pid|task) \\d+",
        unless="hiccup, noise, happening, works, habit, bleeding, smoking, email, at the end of, python, "
        "in sql, git, my, commit, a gym",
        refused=(
            "stop what you're doing",
            "cancel the current task",
            "undo that",
            "ignore the previous command",
            "kill process 4411",
        ),
        kept=("end task in windows", "How do I undo the last commit in git?"),
    ),
    deed(
        "my devices",
        "connect pair sync disconnect unsync unpair find hunt look locate ring start charge update "
        "restart reboot locating finding link",
        "my phone, my cellphone, my handset, my mobile, my headphone, my car, my speaker, my tv, "
        "to you, with you, from you, my keys, my wallet, my remote, my ipad, my watch, "
        "my glasses, the server, the router, my computer, my laptop, device",
        unless="not working, slow, device manager, how",
        refused=("connect to my headphones", "find my keys", "restart the server now", "please sync up with my phone"),
        kept=("connect to a mysql database from node", "How do I connect my phone to my TV?"),
    ),
    deed(
        "apps, pictures and files",
        "open launch take record print download upload save backup close submit approve "
        "deploy run merge commit push revert renew extend create file assign scan delete archive attach track log",
        "spotify, youtube, netflix, maps, camera, gallery, the app, bank app, settings, a "
        "picture, a photo, a selfie, a screenshot, a voice memo, the meeting, my screen, the "
        "screen, the document, this document, the file, this file, this, it, these, my files, "
        "my photos, all photos, all pictures, all files, all documents, all emails, all messages, all the, copies, "
        "my changes, the changes, my branch, my code, an? (?:jira|support|bug|github|new|help|helpdesk) (?:ticket"
        "|issue), my library, attachment, the tests, the build, my pull request, pull request, a ticket, "
        "an issue, this issue, a bug (?:about|against|on|for), to production, bug report, support request, my run, my "
        "workout, this workout, expense report, all my messages, app",
        unless="how, what, on a mac, of the moon, youtube channel, youtube video, an app, in (?:word|excel|gmail"
        "|minecraft), this sentence, log in, it take, google maps api, app store, app for, app "
        "development, app idea",
        refused=(
            "open Spotify",
            "take a picture",
            "print the document",
            "merge my pull request",
            "create a ticket for the broken printer",
            "file a bug about the login page",
        ),
        kept=("open a csv file in pandas", "How do I take a screenshot on a Mac?", "run tests in parallel pytest"),
    ),
    rule(
        "something definite",
        DONE,
        "copy empty close download upload follow unfollow archive clear clean lock unlock wipe vacuum start stop "
        "resume lower raise "
        "save rename move delete install mark set turn switch backup sort tidy refresh reload hide show like",
        r"^(?:copy|empty|close|download|upload|archive|clear|clean|lock|unlock|wipe|save|rename|move|delete|refresh"
        r"|reload|mark|tidy) "
        r"(?:my|the|all|this|these|those|every)\b(?! (?:way|difference|best|gap|deal|loop)\b)(?: [\w'-]+){1,6}$"
        r"|^(?:start|stop|resume|begin|pause) (?:recording|streaming|listening|dictation|tracking|sharing|navigation"
        r"|charging)\b|^(?:un)?follow @?\w+ on \w+$|^set my status\b",
        unless=r"\b(?:how|what|why|definition|meaning|tips|stains?|mold|wall|pan|pans|skin|lungs|arteries|wound|ears?|acne|cache|cookies|history"
        r"|door on|book|novel|movie|lyrics|worlds?|planet|earth|oceans?|children|date|whales?|gmail|facebook"
        r"|instagram|whatsapp|teams|zoom|word|app)\b",
        refused=(
            "empty the trash",
            "close all tabs",
            "copy my files to the backup drive",
            "start recording",
            "follow @nasa on twitter",
        ),
        kept=("How do I empty the trash?", "save the whales", "delete all emails in gmail", "clean the oven tips"),
    ),
    deed(
        "take me there",
        "take navigate drive directions guide get bring start",
        "me to the, me to my, me home, home, navigation, to work, us to, me a ride, a ride",
        unless="how, work from home, home remedies, home loan, bring home, take home pay, home screen, to work out",
        refused=("take me to the airport", "navigate home", "directions home"),
        kept=("How do I get home insurance?",),
    ),
    rule(
        "a seat, a bed, a ride",
        DONE,
        "flight flights uber taxi cab hotel table reservation suv reserve",
        r"\b(?:reserve|reserved|reservation|table)\b.*\b(?:for|at) (?:\d+|two|three|four|five|six|seven"
        r"|eight)\b|^(?:a |an |some |my |one )?(?:cheap |nice |hotel )?(?:flights?|uber|taxi|cab|hotel"
        r"|room|table"
        r"|reservation|rental car|suv)\b.* (?:from|to|for (?:\d+|two|three|four|five|six)|at|tonight"
        r"|tomorrow)\b",
        unless=r"\b(?:how|why|what|best|vs|distance|duration|time|sql|html|delay|temperature|insurance|length"
        r"|rules?|etiquette|number|attendant|path)\b",
        refused=("a flight from Boston to Denver", "table for 3 at Olive Garden"),
        kept=("flight time from London to New York", "What is flight mode?"),
    ),
)
