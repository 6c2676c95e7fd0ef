"""Essays that students of the sample write: a title and paragraphs each."""

from __future__ import annotations

from typing import NamedTuple


class Essay(NamedTuple):
    """What a student means to write."""

    title: str
    paragraphs: tuple[str, ...]


ESSAYS = (
    Essay(
        'Should school start later?',
        (
            'Most teenagers in my class are half asleep in the first lesson. I used to think that this was our own '
            'fault, because we go to bed too late. Now I believe that the school day simply begins at the wrong hour.',
            'The body of a teenager runs on a later clock. Doctors say that we cannot fall asleep before eleven, even '
            'if we try. When the alarm rings at six, we have lost two hours, and we lose them again every night of '
            'the week. Nobody would ask an adult to drive a bus after such a week.',
            'Some parents answer that a later start would spoil the afternoon. They have a point: practice and jobs '
            'would move into the evening. But an hour in which nothing is learned helps nobody. I would rather run '
            'in the dark than sleep through chemistry.',
            'For these reasons our school should begin at nine. It costs little, and it could be tried for a term.',
        ),
    ),
    Essay(
        'The river behind our town',
        (
            'Behind our town there is a river that nobody visits. When my grandmother was young she swam in it, and '
            'the whole street came along on Sundays. Today a fence stands there, and a sign that warns of the water.',
            'We measured it for a project. There were fewer poisons than we had feared, but hardly any oxygen, and so '
            'no fish. The water is slow because the banks were made of concrete fifty years ago. A river needs stones, '
            'bends and shade to breathe.',
            'Cleaning it would not be cheap. Still, the town spends more each year on pumping the cellars dry after '
            'rain, and a wide green bank would hold that rain back. So the fish and the cellars want the same thing.',
        ),
    ),
    Essay(
        'Le téléphone en classe',
        (
            'Dans notre lycée, le téléphone est interdit depuis la rentrée. Au début, beaucoup d\u2019élèves étaient '
            'fâchés, et moi aussi. Après trois mois, je vois les choses autrement.',
            'D\u2019abord, on se parle de nouveau à la récréation. Ensuite, les cours sont plus calmes\u00a0: personne '
            'ne filme, personne n\u2019attend une réponse. Même ceux qui s\u2019ennuient finissent par écouter un peu.',
            'Pourtant, la règle n\u2019est pas parfaite. Un téléphone peut servir à chercher un mot, à enregistrer une '
            'expérience, à traduire. Il faudrait donc apprendre à s\u2019en servir, et pas seulement à s\u2019en '
            'passer.',
        ),
    ),
    Essay(
        'Why I draw comics 😀',
        (
            'My teacher asked why I fill my notebooks with little people. The short answer is 😀. The long answer is '
            'that a picture lets me say two things at once: what somebody says, and what he really thinks.',
            'In a story I have to choose. If I write "she smiled", the reader believes it. In a comic the mouth smiles '
            'and the hands hold on to the table, and now you know. I learned this from looking, not from reading.',
            'People say that comics are easy. Try to draw a door that somebody is about to open! It took me a week and '
            'eleven sheets of paper 📄. When it worked I was as proud as of any essay.',
        ),
    ),
)
"""Four essays: plain letters, plain letters, accents, emoji."""

NOTES = Essay(
    'Notes',
    (
        'Ideas: begin with a scene, then the argument. Ask grandmother about the river. Two sources at least.',
        'To check: how many hours of sleep? Who pays? What would the other side say?',
    ),
)
"""What students keep in a second document."""
