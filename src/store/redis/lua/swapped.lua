-- Nothing at all is no swap that could have been done before.
fit = fit or 1
local tells, reply = fit == 1, { fit }
if tells and swap then
  swap()
else
  call('DEL', p .. '-')
  -- What was done before is written anew: WAIT counts only what its own connection wrote.
  if fit == 2 then call('SET', p .. 'epoch', ARGV[2]) end
end
