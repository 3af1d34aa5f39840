if not res then return { 1 } end
local held, waits, version, lease = got[5], got[6], got[7], got[8]
