"""The commonest words for such requests in German, French and Spanish. Of other text in them the rules know nothing."""

from millrace.caches.reusable.rule import ASKER, CHANCE, DONE, TIME, Rule, rule

RULES: tuple[Rule, ...] = (
    rule(
        "by chance, in German, French and Spanish",
        CHANCE,
        "witz wirf münze würfel würfle zufällige zufallszahl zufällig blague pile dé hasard "
        "devinette chiste moneda dado dados azar aleatorio",
        r"\b(?:witz|zufallszahl|zufällig\w*|blague|devinette|chiste|azar|aleatori[oa])\b|\bwirf\b.*\bmünze"
        r"|\bwürfle\b|\bwürfel\b|\bpile ou face\b"
        r"|\b(?:lance|jette|lancer)\b.*\bdé|\b(?:lanza|tira)\b.*\b(?:moneda|dados?)",
        unless=r"\b(?:wie|warum|was bedeutet|comment|pourquoi|cómo|por qué|qué significa)\b",
        refused=("Erzähl mir einen Witz", "Raconte-moi une blague", "Lanza una moneda"),
        kept=("Was bedeutet Würfel?", "Comment calculer un pourcentage ?"),
    ),
    rule(
        "the time, in German, French and Spanish",
        TIME,
        "heute morgen gestern jetzt wetter spät uhr nachrichten börsenkurs aktienkurs aujourd'hui "
        "aujourd demain météo heure actualités hoy mañana ayer ahora hora noticias tiempo",
        r"\b(?:heute|gestern|jetzt|wetter(?!bericht lesen)|nachrichten|aktienkurs|börsenkurs|aujourd'?hui"
        r"|météo|actualités|hoy|ayer|noticias)\b|\bwie (?:spät|viel uhr)\b|\bwird es morgen\b"
        r"|\bmorgen\b.*\b(?:regnen|schneien|wetter)|\bwas (?:ist|läuft) morgen\b"
        r"|\bquelle heure (?:est|il)|\bdemain\b|\bqué (?:hora|tiempo|día) (?:es|hace|hará)"
        r"|\bmañana\b.*\b(?:lloverá|llover|tiempo)|\bahora\b",
        refused=("Wie wird das Wetter heute?", "Quelle heure est-il ?", "¿Qué tiempo hace?", "Wie spät ist es?"),
        kept=("Wie hoch ist der Eiffelturm?", "Quelle est la capitale du Pérou ?", "¿Cómo se dice buenos días?"),
    ),
    rule(
        "what is mine, in German, French and Spanish",
        ASKER,
        "mein meine meinen meinem meiner mon ma mes mi mis bin heiße suis estoy",
        r"^wo bin ich$|^wer bin ich$|^wie heiße ich$|^(?:où|qui) suis-je$|^dónde estoy$"
        r"|^(?!wie \w+ ich |wie (?:kann|ändere|setze|lösche|kündige|soll|sperre|aktiviere|finde)|warum"
        r"|wieso|comment|pourquoi|cómo|por qué|¿cómo|¿por).*"
        r"\b(?:mein(?:e[nmrs]?)? (?:kontostand|termine?|bestellung|konto|paket|kalender|flug|rechnung"
        r"|gehalt|guthaben|nachrichten|standort|name|passwort)"
        r"|m(?:on|a|es) (?:solde|commandes?|rendez-vous|calendrier|compte|colis|vol|facture|salaire"
        r"|messages|agenda|nom)"
        r"|mis? (?:saldo|pedidos?|citas?|cuenta|paquete|calendario|vuelo|factura|sueldo|mensajes|agenda"
        r"|nombre|ubicación))\b",
        refused=("Wie ist mein Kontostand?", "Wo bin ich?", "Où est ma commande ?", "¿Cuál es mi saldo?"),
        kept=("Wie setze ich mein Passwort zurück?", "Comment puis-je fermer mon compte ?", "¿Cómo cambio mi nombre?"),
    ),
    rule(
        "done, in German, French and Spanish",
        DONE,
        "stell stelle spiel spiele ruf rufe schalte mach buche bestell bestelle erinnere überweise "
        "storniere mets règle joue appelle réserve commande allume éteins rappelle envoie "
        "annule pon reproduce llama reserva pide enciende apaga cancela compra recuérdame envía transfiere",
        r"^(?:bitte |s'il te plaît |s'il vous plaît |por favor |kannst du |peux-tu |puedes )*"
        r"(?:stelle? .*\b(?:wecker|timer|erinnerung|alarm)\b|spiele? .*\b(?:musik|lied|song|playlist|jazz"
        r"|rock|radio)\b|rufe? .* an$|schalte .* (?:an|aus|ein)$|mach .* (?:an|aus|lauter|leiser)$"
        r"|buche .+|bestelle? .+|erinnere mich\b|überweise .+|storniere .+"
        r"|(?:mets|règle) .*\b(?:alarme|minuteur|réveil|musique|rappel)\b|joue .*\b(?:musique|chanson"
        r"|jazz)\b|appelle (?:ma|mon|le|la|un)\b|réserve .+|commande (?:une?|des|moi)\b|(?:allume"
        r"|éteins) .+|rappelle-moi\b|envoie .+ à\b|annule .+"
        r"|pon .*\b(?:alarma|temporizador|música|recordatorio)\b|reproduce .+|llama a\b|reserva (?:una?"
        r"|mesa)\b|pide (?:una?|un taxi)\b|(?:enciende|apaga) .+|cancela .+|compra .+|recuérdame\b"
        r"|envía .+ a\b|transfiere .+)",
        refused=(
            ("Stell einen Wecker auf sieben Uhr"),
            "Réserve une table pour deux",
            "Llama a mi madre",
            "Apaga la luz",
        ),
        kept=("Wie stelle ich einen Wecker?", "Comment activer le mode sombre ?", "llama facts for kids"),
    ),
)
