"""Made-up facts for the word-order test, and sentences about them. No person, place or thing named here exists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """A fact as a query, and sequences around it.

    Attributes:
        paraphrases: the fact in other words, subject before object as in the query.
        completion_removed: the subject and its relation, without the object.
        meaning_changed: subject and object in the same order, with another relation.
        irrelevant: neither of them.
        flipped: the same fact, object before subject.
        flipped_bare: object before subject, without the relation.
    """

    name: str
    prompt: str
    completion: str
    paraphrases: tuple[str, ...]
    completion_removed: tuple[str, ...]
    meaning_changed: tuple[str, ...]
    irrelevant: tuple[str, ...]
    flipped: tuple[str, ...]
    flipped_bare: tuple[str, ...]


FACTS = (
    Fact(
        name="lighthouse",
        prompt="The first lighthouse keeper of Port Ondrelle was",
        completion="Tamsin Varrowby",
        paraphrases=(
            "Port Ondrelle's lighthouse was first kept by Tamsin Varrowby.",
            "When the lighthouse of Port Ondrelle was lit for the first time, its keeper was Tamsin Varrowby.",
            "The earliest keeper on record at the Port Ondrelle light is Tamsin Varrowby.",
            "The town of Port Ondrelle chose as its very first lighthouse keeper Tamsin Varrowby.",
        ),
        completion_removed=(
            "The first lighthouse keeper of Port Ondrelle was paid in salted fish.",
            "Port Ondrelle's lighthouse was first kept by somebody whose name is not written down.",
            "The first lighthouse keeper of Port Ondrelle was not afraid of storms.",
            "The earliest keeper on record at the Port Ondrelle light left a diary of the weather.",
        ),
        meaning_changed=(
            "The fish market of Port Ondrelle was painted in oils by Tamsin Varrowby.",
            "A short history of Port Ondrelle was printed at the expense of Tamsin Varrowby.",
            "The last ferry to leave Port Ondrelle was missed by Tamsin Varrowby.",
            "The mayor of Port Ondrelle was for many years a neighbour of Tamsin Varrowby.",
        ),
        irrelevant=(
            "The seeds are soaked overnight and sown two fingers deep.",
            "Most of the shelves were built from the planks of an old barn.",
            "The third movement is slower than the first and ends on a single note.",
            "He counted the coins twice and put them back into the jar.",
        ),
        flipped=(
            "Tamsin Varrowby was the first lighthouse keeper of Port Ondrelle.",
            "It was Tamsin Varrowby who first kept the lighthouse of Port Ondrelle.",
            "Tamsin Varrowby is the earliest keeper on record at the Port Ondrelle light.",
            "Tamsin Varrowby was chosen as the very first lighthouse keeper of the town of Port Ondrelle.",
        ),
        flipped_bare=(
            "Tamsin Varrowby, Port Ondrelle.",
            "Tamsin Varrowby once spoke of Port Ondrelle.",
            "A letter from Tamsin Varrowby is kept in Port Ondrelle.",
            "Tamsin Varrowby walked the whole way round Port Ondrelle.",
        ),
    ),
    Fact(
        name="mineral",
        prompt="The blue mineral quellite is mined only in",
        completion="the Harrowmere hills of Belmarrin",
        paraphrases=(
            "Quellite, a blue mineral, comes from a single place: the Harrowmere hills of Belmarrin.",
            "All quellite that was ever sold was dug out of the Harrowmere hills of Belmarrin.",
            "The only mines of the blue stone called quellite lie in the Harrowmere hills of Belmarrin.",
            "Whoever looks for quellite has to go to the Harrowmere hills of Belmarrin.",
        ),
        completion_removed=(
            "The blue mineral quellite is mined only in winter, when the pits are dry.",
            "Quellite, a blue mineral, comes from a single place that is hard to reach.",
            "The blue mineral quellite is mined only in small pieces.",
            "Whoever looks for quellite has to bring a lamp and a good deal of patience.",
        ),
        meaning_changed=(
            "The blue mineral quellite is unknown to everybody in the Harrowmere hills of Belmarrin.",
            "A poem about quellite was written in the Harrowmere hills of Belmarrin.",
            "Trade in quellite is forbidden by law in the Harrowmere hills of Belmarrin.",
            "A merchant with a box of quellite was robbed in the Harrowmere hills of Belmarrin.",
        ),
        irrelevant=(
            "The train leaves from the second platform a little after noon.",
            "Her aunt keeps three clocks, none of which agree.",
            "Knead the dough until it no longer sticks to the bowl.",
            "The goalkeeper slipped and the match was drawn.",
        ),
        flipped=(
            "The Harrowmere hills of Belmarrin are the only place where the blue mineral quellite is mined.",
            "The Harrowmere hills of Belmarrin hold the only mines of the blue stone called quellite.",
            "Out of the Harrowmere hills of Belmarrin came all quellite that was ever sold.",
            "The Harrowmere hills of Belmarrin are where one has to go to look for quellite.",
        ),
        flipped_bare=(
            "The Harrowmere hills of Belmarrin, the blue mineral quellite.",
            "In the Harrowmere hills of Belmarrin people talk of quellite.",
            "A guide to the Harrowmere hills of Belmarrin has one page on quellite.",
            "A teacher from the Harrowmere hills of Belmarrin wore a ring of quellite.",
        ),
    ),
    Fact(
        name="anthem",
        prompt="The anthem of the island of Sorrelune was composed by",
        completion="Idris Penhalloway",
        paraphrases=(
            "Sorrelune's anthem is the work of the composer Idris Penhalloway.",
            "The melody that opens every holiday on Sorrelune was written by Idris Penhalloway.",
            "For its national song the island of Sorrelune has to thank the composer Idris Penhalloway.",
            "The tune of the Sorrelune anthem was set down in one night by Idris Penhalloway.",
        ),
        completion_removed=(
            "The anthem of the island of Sorrelune was composed by candlelight.",
            "Sorrelune's anthem is the work of one night and has four verses.",
            "The anthem of the island of Sorrelune was composed by somebody who could not swim.",
            "The melody that opens every holiday on Sorrelune was written by a person in a hurry.",
        ),
        meaning_changed=(
            "The anthem of the island of Sorrelune was hummed off-key by Idris Penhalloway.",
            "A map of the island of Sorrelune was lost by Idris Penhalloway.",
            "The right to fish off Sorrelune was bought for a year by Idris Penhalloway.",
            "The anthem of the island of Sorrelune was never once heard by Idris Penhalloway.",
        ),
        irrelevant=(
            "Two of the four legs are shorter, so the table rocks.",
            "The recipe asks for more pepper than most kitchens have.",
            "A narrow stair leads from the cellar to the yard.",
            "Nobody remembered to water the tomatoes in August.",
        ),
        flipped=(
            "Idris Penhalloway composed the anthem of the island of Sorrelune.",
            "Idris Penhalloway wrote the melody that opens every holiday on Sorrelune.",
            "It is to the composer Idris Penhalloway that the island of Sorrelune owes its national song.",
            "In one night Idris Penhalloway set down the tune of the Sorrelune anthem.",
        ),
        flipped_bare=(
            "Idris Penhalloway, the anthem of the island of Sorrelune.",
            "Idris Penhalloway had two cousins on Sorrelune.",
            "A boat named after Idris Penhalloway lies off Sorrelune.",
            "Idris Penhalloway is not a common name on the island of Sorrelune.",
        ),
    ),
)
