-- lib_credentials.lua: what the scripts on credentials share. Put behind their prelude, see scripts.py.
--
-- A credential is JSON: h digest, s scope (none: FULL), n display name, c create (ms), x expiry (ms, none: it does
-- not run out). Of one that a rotation added: o when the others end. Of one that made a rotation that may be
-- repeated: r the request, m the credential that it added, k until when (ms).

-- Whether a project exists and is not being deleted.
local function project_open(project)
  use(AUTHORISATION_DB)
  local facts = call('HMGET', PROJECT .. project, 'id', 'closed')
  return facts[1] and not facts[2]
end

local function credentials_of(project)
  use(AUTHORISATION_DB)
  local flat = call('HGETALL', CREDENTIALS .. project)
  local kept = {}
  for i = 1, #flat, 2 do
    kept[flat[i]] = cjson.decode(flat[i + 1])
  end
  return kept
end

local function is_full(credential)
  return (credential.s or 'FULL') == 'FULL'
end

local function expired(credential)
  return credential.x and credential.x <= now
end

-- Expired, and not good for repeating a rotation either.
local function gone(credential)
  return expired(credential) and (credential.k or 0) <= now
end

local function drop_expired_credentials(project)
  for id, credential in pairs(credentials_of(project)) do
    if gone(credential) then
      call('HDEL', CREDENTIALS .. project, id)
    end
  end
end
