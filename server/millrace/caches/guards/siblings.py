"""Words of one kind that exclude each other: an answer about horses is none about cows."""

_KINDS = """
monday tuesday wednesday thursday friday saturday sunday | january february march april june july august september
october november december | spring summer autumn fall winter | morning noon afternoon evening night midnight |
breakfast lunch dinner brunch supper | red orange yellow green blue purple pink brown black white gray violet
turquoise beige | north south east west northern southern eastern western | once twice thrice | single double triple
quadruple half third quarter | hourly daily weekly monthly quarterly yearly |
weekday workday weekend holiday | second minute hour day week month year
decade century | dog cat horse cow pig sheep goat rabbit hamster fish bird snake lizard turtle spider ant bee wasp
mouse rat tiger lion elephant bear wolf fox deer monkey ape gorilla whale shark dolphin octopus frog toad duck goose
chicken turkey owl eagle parrot pigeon squirrel raccoon bat hedgehog snail worm crab lobster shrimp puppy kitten
cockroach mosquito flea tick bedbug | apple orange banana pear peach plum cherry grape lemon lime mango melon
strawberry blueberry raspberry pineapple avocado tomato potato carrot onion garlic cucumber lettuce spinach cabbage
broccoli cauliflower pepper bean pea corn pumpkin mushroom | beef pork lamb chicken turkey fish salmon tuna bacon
ham steak sausage | rice pasta bread noodle quinoa oat wheat barley rye | water milk coffee tea juice beer wine
vodka whiskey rum soda | bread cake pie cookie muffin pancake waffle pizza soup salad sandwich burger | gold silver
copper iron steel lead tin zinc aluminum nickel platinum titanium bronze brass | oxygen hydrogen nitrogen carbon
helium sodium potassium calcium magnesium chlorine | head neck shoulder arm elbow wrist hand finger thumb chest back
hip leg knee ankle foot toe | eye ear nose mouth lip tongue tooth chin cheek | heart liver kidney lung brain stomach
pancreas spleen bladder skin | father mother brother sister son daughter uncle aunt cousin nephew niece grandfather
grandmother husband wife | doctor nurse dentist lawyer teacher engineer plumber electrician carpenter painter pilot
chef waiter accountant nurse | police fireman soldier priest judge actor singer dancer writer | car bus truck train
tram bicycle motorcycle plane helicopter ship boat scooter taxi van | kitchen bathroom bedroom garage garden
basement attic balcony roof cellar | table chair sofa bed desk shelf wardrobe lamp mirror curtain carpet | shirt
trousers pants dress skirt jacket coat sweater sock shoe hat glove scarf tie | football soccer basketball baseball
tennis golf hockey rugby cricket volleyball swimming boxing | guitar piano violin drum flute trumpet cello saxophone
| cancer diabetes asthma flu pneumonia measles malaria cholera arthritis depression anxiety migraine eczema |
mathematics physics chemistry biology history geography economics philosophy psychology sociology | circle square
triangle rectangle pentagon hexagon cube sphere cylinder cone pyramid | noun verb adjective adverb pronoun
preposition conjunction | planet star moon comet asteroid galaxy | river lake ocean sea mountain hill valley desert
island forest | country county city town village state province continent | king queen prince duke emperor president
governor mayor senator | integer float string boolean array list tuple dictionary set class function method module
loop | laptop desktop tablet phone printer router monitor keyboard mouse scanner camera | passport visa license
permit certificate | kidney liver lung heart | bachelor master doctorate diploma | apartment house hotel hostel
office school hospital museum library church restaurant airport station | width height depth length weight volume
area age speed temperature color price size shape | sentence word letter paragraph chapter page | mean median mode
variance | addition subtraction multiplication division | sine cosine tangent | plaintiff defendant | cup pint quart
gallon ounce tablespoon teaspoon | inch foot yard mile acre hectare | plant animal fungus | egg sperm | question
exclamation | try catch finally throw else
"""


def _indexed() -> dict[str, frozenset[int]]:
    index: dict[str, frozenset[int]] = {}
    for number, kind in enumerate(_KINDS.split("|")):
        for word in kind.split():
            index[word] = index.get(word, frozenset()) | {number}
    return index


_INDEX = _indexed()


def siblings(left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether two words, each given by its lemmas, are different ones of one kind."""
    if not left.isdisjoint(right) or any(x.startswith(y) or y.startswith(x) for x in left for y in right):
        return False
    kinds = [kind for form in left for kind in _INDEX.get(form, ())]
    return bool(kinds) and any(kind in kinds for form in right for kind in _INDEX.get(form, ()))
