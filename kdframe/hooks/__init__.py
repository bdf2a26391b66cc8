import kdframe.hooks.complexity  # parameters and multiply-adds of both networks
import kdframe.hooks.curves  # a picture
import kdframe.hooks.metrics  # JSON lines
import kdframe.hooks.progress  # the console
import kdframe.hooks.tensorboard  # event files
from kdframe.hooks.base import Hook

__all__ = ["Hook"]
