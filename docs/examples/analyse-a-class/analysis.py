import pandas as pd

states = pd.read_csv('class.csv', parse_dates=['written'])


def of(reducer):
    """The rows of a reducer, with those columns alone that it has."""
    return states[states.reducer == f'devdata.reducers.{reducer}'].dropna(axis='columns', how='all')


essays = of('reconstruct')
words = essays.text.str.split().str.len()
students = pd.DataFrame(
    {
        'minutes': of('time_on_task').set_index('STUDENT').seconds / 60,
        'events': of('event_count').set_index('STUDENT').total,
        'essays': essays.groupby('STUDENT').size(),
        'words': words.groupby(essays.STUDENT).sum(),
    }
)
students['words a minute'] = students.words / students.minutes
print(students.round(1).to_string())
print(states.groupby('reducer').bytes.agg(['count', 'median']).to_string())
