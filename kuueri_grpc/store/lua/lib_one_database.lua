-- lib_one_database.lua: where the keys of each kind are on a cluster. Put in front of prelude.lua.
--
-- All are in database 0, so that no script selects another one: a slot that moves to a primary that takes
-- other writes meanwhile arrives in the wrong databases of that primary's replicas (Valkey 9.1,
-- tests/cluster/test_many_databases.py). No name is of two kinds, see keys.py.

local AUTHORISATION_DB, EXECUTION_DB, CONFIGURATION_DB, TIMELINE_DB = 0, 0, 0, 0

