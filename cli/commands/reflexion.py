"""`viral reflexion`"""

from cli.commands.accuracy import show_accuracy
from cli.commands.replay import run_replay
from cli.shell import Group

app = Group()

app.command("accuracy")(show_accuracy)
app.command("replay")(run_replay)
