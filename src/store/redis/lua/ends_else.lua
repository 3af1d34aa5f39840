if rest > 0 then
  keep(res, clock + rest, NOBODY, 0, sub(held, 33))
else
  pass_on(res, waits)
end
return reply
