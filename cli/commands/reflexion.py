"""`viral reflexion`"""

from cli.commands.replay import run_replay
from cli.shell import Group

app = Group()

app.command("replay")(run_replay)
