// A Minecraft server (flying-squid) on a loopback port, as a console program: commands in, log lines out.
const squid = require('flying-squid')
const settings = {
  ...require('flying-squid/config/default-settings.json'),
  host: '127.0.0.1',
  port: Number(process.env.MC_PORT),
  version: '1.16.1',
  'online-mode': false,
  'view-distance': 2,
  logging: false,
  generation: { name: 'superflat', options: {} }
}
delete settings.worldFolder
squid.createMCServer(settings)
