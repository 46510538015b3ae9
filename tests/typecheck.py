"""The type checker of the tests: beartype, to which an int is also a float, as it is to every static checker."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
