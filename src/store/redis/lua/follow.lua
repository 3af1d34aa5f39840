-- A write goes out: what else is unsettled of its resource is not the last write any more (K12). Once is enough.
-- In: list, the key of what is `listed` there, if a write goes out; id.
if listed then
  local left = ''
  for other in string.gmatch(listed, '%x+') do
    if other == id then
      left = id .. ' '
    else
      local unsettled = call('GET', p .. 'r:' .. other)
      if unsettled and sub(unsettled, 3, 3) == 'u' then call('SETRANGE', p .. 'r:' .. other, 2, 'f') end
    end
  end
  if left == '' then call('DEL', list) else call('SET', list, left, 'KEEPTTL') end
end
