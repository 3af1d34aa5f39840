-- Liveness (S3): `alive` has of each instance until when, by the server's clock. The instance as it was, if that is
-- still alive here, or else another life of it.
local function keep_alive(instance, anew, alive)
  local kept = instance ~= '' and lives(instance)
  redis.call('ZADD', p .. 'alive', clock() + alive, kept and instance or anew)
  return kept and 1 or 0
end
