"""How many instructions a request costs, counted by callgrind: the same on a busy machine as on a quiet one."""
