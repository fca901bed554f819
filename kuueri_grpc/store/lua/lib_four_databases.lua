-- lib_four_databases.lua: where the keys of each kind are on a single server. Put in front of prelude.lua.

local AUTHORISATION_DB, EXECUTION_DB, CONFIGURATION_DB, TIMELINE_DB = 0, 1, 2, 3

