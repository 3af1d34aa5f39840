-- Writes what stands there already: who waits for its copies has those of all that was before it.
call('SET', p .. 'epoch', epoch)
return 1
