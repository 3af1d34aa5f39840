-- Minted versions (V8): v:RESOURCE is a number, and where a second move is still to come when, and where to. They stay
-- for good, since a tag of theirs may be held for as long. None moves back.
-- In: moves, of, version, now, to, later_at: when it moves again, 0 for never, later, ends_rest.
if moves then
  local at, old_at, old = tonumber(version or '0'), 0, 0
  if not at then
    at, old_at, old = string.match(version, '^(%d+) (%d+) (%d+)$')
    at, old_at, old = tonumber(at), tonumber(old_at), tonumber(old)
  end
  if old_at > 0 and old_at <= now then at = old end
  at = math.max(at, to)
  if old_at > now and not ends_rest then
    later_at, later = math.max(later_at, old_at), math.max(later, old)
  end
  if later_at > 0 then
    -- Numbers are given in another order than they are due, and none goes back.
    if later < at then later = call('INCR', p .. 'counter') end
    call('SET', p .. 'v:' .. of, string.format('%.0f %.0f %.0f', at, later_at, later))
  else
    call('SET', p .. 'v:' .. of, string.format('%.0f', at))
  end
end
