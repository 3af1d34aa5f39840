-- The log of events (E1). `ev` is a list of those that are kept, each behind 8 bytes of when it was told, by the clock of
-- who told it; `eb` is how many were dropped before them: numbers are places in both together. `ew` is there if
-- somebody has read to the end since the last one was told, and is to be woken.
-- In: event; history, how many are kept; awaited; tells, whether it has happened.
if tells and event ~= '' then
  local many = call('RPUSH', p .. 'ev', event)
  -- Most are dropped by lua/sweep.lua.
  if many > history + 100 then
    call('LTRIM', p .. 'ev', many - history, -1)
    call('INCRBY', p .. 'eb', many - history)
  end
  if awaited then
    call('DEL', p .. 'ew')
    call('PUBLISH', p .. 'told', '')
  end
end
