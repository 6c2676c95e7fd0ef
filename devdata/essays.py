"""Essays that simulated students write: a title and paragraphs each."""

from __future__ import annotations

from typing import NamedTuple


class Essay(NamedTuple):
    """A title, the paragraphs, and four words that a student inserts later."""

    title: str
    paragraphs: tuple[str, ...]
    afterthoughts: tuple[str, str, str, str] = ('really', 'often', 'still', 'perhaps')


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
        ('vraiment', 'souvent', 'encore', 'aussi'),
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
    Essay(
        'A day without electricity',
        (
            'Last November a storm took the line to our village, and for a day and a night nothing worked. At first it '
            'was a party. By the evening I knew how much of my life hangs on a wire.',
            'We cooked on a camping stove and went to bed at seven. My little brother was afraid of the dark hall, so '
            'I told him stories until he slept. I cannot remember when I last did that.',
            'When the lamps came on again, everybody cheered, and everybody went back to a room of his own. I was glad '
            'and sorry at once. Perhaps a village should switch itself off once a year, on purpose.',
        ),
    ),
    Essay(
        'Who owns the street?',
        (
            'From my window I counted for one hour: two hundred cars, thirty bicycles, eleven children on foot. Then I '
            'measured the street. Nine tenths of its width belong to the cars, most of which stood still.',
            'Cities were not always like this. On old photographs people stand in the middle of the road and talk. The '
            'pavement was invented to protect them, and in the end it locked them in.',
            'I do not want to forbid anything. I want one lane back: for trees, for bicycles, for somebody who sits on '
            'a chair. Where other towns have tried it, the shops earned more than before, and not less.',
        ),
    ),
    Essay(
        'El idioma de mi abuela',
        (
            'Mi abuela habla una lengua que yo entiendo pero no sé hablar. Cuando me cuenta un chiste, me río un '
            'segundo tarde, porque primero lo traduzco. A ella no le importa. A mí, cada año, un poco más.',
            '¿Por qué se pierde una lengua? No porque sea difícil, sino porque alguien decide que no sirve. En la '
            'escuela de mi madre castigaban a quien la hablaba; ahora nadie castiga, y sin embargo casi nadie la usa.',
            'Este verano he empezado un cuaderno. Cada día anoto diez palabras, con su historia. Todavía no es una '
            'lengua, pero ya es una conversación.',
        ),
        ('realmente', 'siempre', 'todavía', 'también'),
    ),
    Essay(
        'Should robots grade essays?',
        (
            'A program can mark an essay in a second. It finds the spelling mistakes, counts the long words, and gives '
            'a number. My teacher needs a week, and her number is often no better.',
            'But I do not write for a number. I write because I want somebody to be surprised. A program has read '
            'everything and is never surprised, so it rewards what it has seen a thousand times before.',
            'Let machines do what tires people: commas, dates, the list of sources. And let a person read the sentence '
            'that I was proud of. If nobody reads it, I will stop writing it.',
        ),
    ),
    Essay(
        'Warum ich Schach verliere',
        (
            'Ich spiele seit vier Jahren Schach und verliere immer noch jede zweite Partie. Mein Großvater sagt, das '
            'sei genau richtig: Wer immer gewinnt, sitzt am falschen Brett.',
            'Beim Verlieren sieht man den eigenen Fehler schwarz auf weiß. Meistens ist es derselbe: Ich freue mich '
            'über einen schönen Plan und übersehe, was der andere vorhat. Das passiert mir nicht nur beim Schach.',
            'Seit einem Monat schreibe ich nach jeder Partie einen Satz auf. Neulich stand da zum dritten Mal: »Zuerst '
            'schauen, dann träumen.« Heute habe ich gewonnen, und der Satz hat mir fast gefehlt.',
        ),
        ('wirklich', 'oft', 'noch', 'vielleicht'),
    ),
    Essay(
        'What the sea keeps',
        (
            'On the beach where we go in summer the sand is full of tiny blue grains. I used to collect them as '
            'jewels. They are plastic, ground small by the waves, and no machine can pick them out again.',
            'The sea does not destroy what we throw away, it keeps it. A bottle that I lost when I was five may be '
            'swimming still, and may swim when I am old. That is a strange kind of memory.',
            'So cleaning the beach, as our class did in May, is a good start and a bad answer. The answer stands at '
            'the other end of the river, in the shops, where every bottle begins.',
        ),
    ),
    Essay(
        'The best mistake of my life',
        (
            'In seventh grade I got on the wrong bus. It had the right number but went the other way, and I noticed '
            'only when the houses ended. I had no money left and no battery, and it began to rain.',
            'At the last stop there was a garage, and in it an old woman repaired a motorcycle. She let me phone, and '
            'until my father came she showed me what a carburettor does. I understood perhaps half of it.',
            'Now I go there every Saturday, on the right bus in the wrong direction. People ask what I want to become. '
            'I tell them that I was lucky to be lost.',
        ),
    ),
    Essay(
        'Is homework fair?',
        (
            'Everybody in our class gets the same homework, so it looks fair. But one of us does it at a desk with a '
            'door that closes, and one of us at the kitchen table with two small sisters.',
            'A study that we read found that homework helps most where there is help already. If that is true, then it '
            'makes the distance between us larger, every evening, by a page.',
            'I would not abolish it. I would bring it back into the school: an hour in the afternoon, quiet rooms, and '
            'somebody who may be asked. Then the same work would mean the same thing.',
        ),
    ),
)
"""The essays of a class, with accents, marks of other languages, and emoji."""

NOTES = Essay(
    'Notes',
    (
        'Ideas: begin with a scene, then the argument. Ask grandmother about the river. Two sources at least.',
        'To check: how many hours of sleep? Who pays? What would the other side say?',
    ),
)
"""What students write in a second document."""
