// The player Steve (mineflayer): joins, waits until 64 diamonds lie in the inventory, ends with exit code 0.
const bot = require('mineflayer').createBot({
  host: '127.0.0.1',
  port: Number(process.env.MC_PORT),
  username: 'Steve',
  version: '1.16.1'
})
const fail = reason => { console.error(reason); process.exit(1) }
const diamonds = () => bot.inventory.items().filter(item => item.name === 'diamond').reduce((n, item) => n + item.count, 0)
bot.on('error', error => fail(error.message))
bot.on('kicked', fail)
bot.once('spawn', () => {
  console.log('Steve joined')
  const look = setInterval(() => {
    if (diamonds() < 64) return
    clearInterval(look)
    console.log(`Steve has ${diamonds()} diamonds`)
    bot.quit()
    process.exit(0)
  }, 100)
})
setTimeout(() => fail('no diamonds after 60 s'), 60_000).unref()
