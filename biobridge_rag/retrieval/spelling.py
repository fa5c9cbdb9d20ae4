"""How names are spelled: letters that are compared, word order, British and American forms, non-proprietary names and salts of drugs.

Knows: words. Does not know: graphs, questions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['\u2019]s\b")
_BRITISH = (("ae", "e"), ("oe", "e"), ("our", "or"), ("sulph", "sulf"))
_LOOSE = {
    "neoplasm": "cancer", "neoplasms": "cancer", "cancers": "cancer", "carcinoma": "cancer", "tumor": "cancer", "tumors": "cancer",
    "diseases": "disease", "disorders": "disorder", "pulmonary": "lung", "renal": "kidney", "hepatic": "liver", "cardiac": "heart",
    "gastric": "stomach", "articular": "joint",
}  # fmt: skip
_DROPPED = frozenset({"of", "the", "in", "a", "an"})
_CANCERS = frozenset({"cancer", "tumor", "neoplasm", "neoplasms", "carcinoma", "melanoma", "glioma", "lymphoma", "sarcoma"})
_BARE = frozenset({"disease", "disorder", "syndrome", "nos"})
_SALT_WORDS = """
acetate axetil benzoate besilate besylate bitartrate bromide butyrate calcium camsylate carbonate chloride cilexetil cipionate
citrate cypionate decanoate diacetate dihydrate dihydrochloride dimesylate dipropionate disodium edisylate embonate enantate
enanthate esylate estolate
fumarate gluconate hcl hemihydrate hemisuccinate hydrate hydrobromide hydrochloride iodide isethionate lactate magnesium malate maleate
medoxomil meglumine mesilate mesylate methylsulfate mofetil monohydrate napsylate nitrate oleate oxalate palmitate pamoate phosphate
pivalate potassium propionate proxetil sodium stearate succinate sulfate tartrate tosilate tosylate trihydrate tromethamine
undecanoate valerate xinafoate
"""
_SALTS = frozenset(_SALT_WORDS.split())
# Names of one substance: international (INN), American (USAN), British (BAN) and common ones. The spellings that the INN rules foresee
# (f for ph, t for th, i for y, c for ch; WHO, Guidance on INN) need no entry: see `substance_key`.
_SAME = """
acetaminophen=paracetamol|albuterol=salbutamol|levalbuterol=levosalbutamol|epinephrine=adrenaline|norepinephrine=noradrenaline
furosemide=frusemide|lidocaine=lignocaine|rifampin=rifampicin|cyclosporine=ciclosporin=cyclosporin a|meperidine=pethidine
isoproterenol=isoprenaline|metaproterenol=orciprenaline|glyburide=glibenclamide|phenobarbital=phenobarbitone
hydroxyurea=hydroxycarbamide|levodopa=l-dopa|glycopyrrolate=glycopyrronium|ergonovine=ergometrine=ergobasine
methylergonovine=methylergometrine|bromodiphenhydramine=bromazine=bromdiphenhydramine
phylloquinone=phytomenadione=phytonadione=vitamin k1=vitamin k|mitoxantrone=mitozantrone|mechlorethamine=chlormethine=mustine
dactinomycin=actinomycin d|methimazole=thiamazole|nitroglycerin=glyceryl trinitrate=trinitroglycerin|scopolamine=hyoscine
tetracaine=amethocaine|benzatropine=benztropine|trihexyphenidyl=benzhexol|dextroamphetamine=dexamfetamine
amphetamine=amfetamine|methamphetamine=metamfetamine|benzylpenicillin=penicillin g|phenoxymethylpenicillin=penicillin v
thiopental=thiopentone|chlorpheniramine=chlorphenamine|dexchlorpheniramine=dexchlorphenamine|metamizole=dipyrone
propoxyphene=dextropropoxyphene|alimemazine=trimeprazine|thiamine=vitamin b1|riboflavin=vitamin b2|pyridoxine=vitamin b6
cyanocobalamin=vitamin b12|ascorbic acid=vitamin c|alpha-tocopherol=vitamin e|retinol=vitamin a=vitamin a1
ergocalciferol=vitamin d2=calciferol|cholecalciferol=vitamin d3|calcidiol=calcifediol=25-hydroxyvitamin d3
calcitriol=1,25-dihydroxyvitamin d3|levothyroxine=thyroxine=l-thyroxine|liothyronine=triiodothyronine
vasopressin=argipressin=antidiuretic hormone|gonadorelin=gonadotropin-releasing hormone=luteinizing hormone-releasing hormone
corticotropin=adrenocorticotropic hormone|cosyntropin=tetracosactide|mesalazine=mesalamine=5-aminosalicylic acid
sulfasalazine=salazosulfapyridine|quinacrine=mepacrine|succinylcholine=suxamethonium|secobarbital=quinalbarbitone
amobarbital=amylobarbitone|iodoquinol=diiodohydroxyquinoline=diiodohydroxyquin|estropipate=estrone sulfate
norethindrone=norethisterone|ethinyl estradiol=ethinylestradiol|mercaptopurine=6-mercaptopurine|thioguanine=tioguanine=6-thioguanine
zidovudine=azidothymidine|didanosine=dideoxyinosine|acetylsalicylic acid=aspirin|metyrosine=metirosine
tretinoin=all-trans retinoic acid|isotretinoin=13-cis retinoic acid|valproic acid=valproate=divalproex=sodium valproate
ursodeoxycholic acid=ursodiol|chenodeoxycholic acid=chenodiol|pyrilamine=mepyramine|meclizine=meclozine
dicyclomine=dicycloverine|bendroflumethiazide=bendrofluazide|leucovorin=folinic acid|cromoglicic acid=cromolyn=cromoglicate=cromoglycate
dimercaprol=british anti-lewisite|edetic acid=ethylenediaminetetraacetic acid|tubocurarine=d-tubocurarine
carmustine=bcnu|lomustine=ccnu|cytarabine=cytosine arabinoside|fluorouracil=5-fluorouracil|floxuridine=fudr
pralidoxime=2-pam|torsemide=torasemide|clomifene=clomiphene|oxymetholone=anadrol|azathioprine=imuran|levomenthol=menthol
hexachlorophene=hexachlorophane|benzocaine=ethyl aminobenzoate|iloprost=ciloprost|dinoprostone=prostaglandin e2
alprostadil=prostaglandin e1|epoprostenol=prostacyclin=prostaglandin i2|dinoprost=prostaglandin f2alpha|methyldopa=alpha-methyldopa
acetylcysteine=n-acetylcysteine|aminosalicylic acid=4-aminosalicylic acid|nicotinic acid=niacin=vitamin b3
nicotinamide=niacinamide|tetrahydrobiopterin=sapropterin|hydroxocobalamin=vitamin b12a|omega-3 fatty acids=fish oil
sirolimus=rapamycin|tacrolimus=fk506|mycophenolic acid=mycophenolate|fusidic acid=fusidate|folic acid=folate=vitamin b9
"""


def words_of(text: str) -> list[str]:
    """The words of a text in the spelling that is compared: lower case, Greek letters spelled out, no accents or punctuation."""
    if not text.isascii():
        text = "".join(_spelled_out(c) for c in unicodedata.normalize("NFKC", text).lower())
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = _POSSESSIVE.sub("", text.lower())
    for british, american in _BRITISH:
        if british in text:
            text = text.replace(british, american)
    return _WORD.findall(text)


def _spelled_out(letter: str) -> str:
    name = unicodedata.name(letter, "") if "\u0370" <= letter <= "\u03ff" else ""
    word = re.match(r"GREEK SMALL LETTER (?:FINAL )?(\w+)", name)
    return f" {word[1].lower().replace('lamda', 'lambda')} " if word else letter


def loose_key(words: Sequence[str]) -> str:
    """The same for a name with its words in another order, small words left out, and some words for the same thing."""
    dropped = _DROPPED | {"malignant"} if _CANCERS.intersection(words) else _DROPPED
    return " ".join(sorted(_LOOSE.get(w, w) for w in words if w not in dropped))


def bare_key(words: Sequence[str]) -> str:
    """As loose_key, and without words that only say that it is a disease; "" where nothing is left."""
    return loose_key([w for w in words if w not in _BARE])


def substance_key(words: Sequence[str]) -> str:
    """The same for all spellings of a substance's name and for its salts and esters; "" for names of under six letters.

    "tiotropium bromide" and "Tiotropium", "chlortalidone" and "Chlorthalidone", "metirosine" and "Metyrosine" have the same."""
    kept = list(words)
    while len(kept) > 1 and kept[-1] in _SALTS and kept[-2] not in _SALTS:
        kept.pop()
    key = "".join(kept)
    if len(key) < 6:
        return ""
    for written, read in (("ph", "f"), ("th", "t"), ("ch", "c"), ("y", "i")):
        key = key.replace(written, read)
    return re.sub(r"(.)\1", r"\1", key).removesuffix("e")


def other_names() -> dict[str, tuple[str, ...]]:
    """Other names of a substance by the substance_key of each of its names."""
    out: dict[str, tuple[str, ...]] = {}
    for group in _SAME.replace("\n", "|").split("|"):
        names = tuple(name for name in group.split("=") if name)
        for name in names:
            words = words_of(name)
            out[substance_key(words) or "".join(words)] = tuple(n for n in names if n != name)
    return out
