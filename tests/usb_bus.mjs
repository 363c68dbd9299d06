// A USB host at the level of packets for rp2040js, told by tests what to do: see test_rp2040js_usb.py, which starts it in
// the place of the serial port. One JSON object a line comes by stdin, and answers and packets go by stdout.
//
// The package takes every packet at once and knows no NAK, so its transfers are done here, on its registers and memory:
// a packet is fetched when this host asks for it, and one that finds no buffer is asked for again.

const CONTROL = 0x80, EP0_BUFFER = 0x100; // in the controller's memory
const LENGTH = 0x3ff, AVAILABLE = 1 << 10, STALL = 1 << 11, DATA1 = 1 << 13, FULL = 1 << 15, ENABLE = 0x80000000;
const SETUP_REC = 1 << 17, BUS_RESET = 1 << 19;
const BETWEEN_NS = 20_000, FRAME_NS = 1_000_000; // two transfers; two frames
const PATIENCE = 2500; // times that a control transfer is tried again
const DATA = 2; // the endpoint

// A boot ROM with the tables that a real one has, and one function: it stops at a BKPT.
const ROM_TABLE = 0x40, ROM_LOOKUP = 0x60, ROM_RESET_USB_BOOT = 0x100;
const LOOKUP_CODE = [0x8802, 0x2a00, 0xd003, 0x428a, 0xd003, 0x3004, 0xe7f8, 0x2000, 0x4770, 0x8840, 0x4770];

function bootRom(chip, version) {
  const rom = new DataView(chip.bootrom.buffer);
  const half = (at, value) => rom.setUint16(at, value, true);
  rom.setUint8(0x10, 0x4d); // M
  rom.setUint8(0x11, 0x75); // u
  rom.setUint8(0x12, version);
  half(0x14, ROM_TABLE);
  half(0x18, ROM_LOOKUP + 1);
  [0x5858, 0x101, 0x4255, ROM_RESET_USB_BOOT + 1, 0].forEach((value, i) => half(ROM_TABLE + 2 * i, value)); // "XX", "UB"
  LOOKUP_CODE.forEach((value, i) => half(ROM_LOOKUP + 2 * i, value));
  half(ROM_RESET_USB_BOOT, 0xbe55);
  half(ROM_RESET_USB_BOOT + 2, 0xe7fe);
}

export default function attach({ chip, clock, wake, end }) {
  const usb = chip.usbCtrl, memory = chip.usbDPRAMView;
  const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
  const hex = (bytes) => Buffer.from(bytes).toString('hex');
  let address = 0, reading = false, frames = true, control = null, outToggle = 0, inToggle = 0, pumping = false;
  const out = [];
  usb.DPRAMUpdated = () => {};
  bootRom(chip, 1);
  chip.onBreak = () => say({ rom: [chip.core.PC, chip.core.registers[0], chip.core.registers[1]] });

  const place = (n, isOut) => CONTROL + 8 * n + (isOut ? 4 : 0);
  const buffer = (n, isOut) => (n ? memory.getUint32(place(n, isOut) - CONTROL, true) & 0xffc0 : EP0_BUFFER);
  const answers = () => usb.sieCtrl & (1 << 16) && (usb.addrEndp & 0x7f) === address;

  // A transfer: its bytes, null for NAK, 'stall', or undefined where nobody answers.
  function transfer(n, isOut, bytes, toggle) {
    if (!answers()) return undefined;
    if (n && !(memory.getUint32(place(n, isOut) - CONTROL, true) & ENABLE)) return undefined;
    const word = memory.getUint32(place(n, isOut), true);
    if (word & STALL && (n || usb.epStallArm & (isOut ? 2 : 1))) return 'stall';
    if (!(word & AVAILABLE)) return null;
    const told = word & DATA1 ? 1 : 0;
    if (isOut && told !== toggle) return bytes; // acknowledged and dropped
    if (!isOut && told !== toggle) throw new Error(`endpoint ${n} sent DATA${told}`);
    const length = isOut ? Math.min(bytes.length, word & LENGTH) : word & LENGTH;
    const at = buffer(n, isOut);
    if (isOut) chip.usbDPRAM.set(bytes.subarray(0, length), at);
    memory.setUint32(place(n, isOut), isOut ? (word & ~(LENGTH | AVAILABLE)) | FULL | length : word & ~(AVAILABLE | FULL), true);
    usb.indicateBufferReady(n, isOut);
    return isOut ? bytes : chip.usbDPRAM.slice(at, at + length);
  }

  function finish(answer) {
    control = null;
    say({ control: answer });
  }

  // One step of the control transfer that is under way.
  function step() {
    const c = control;
    if (c.tries++ > PATIENCE) return finish('timeout');
    if (c.stage === 'setup') {
      if (!answers()) return undefined;
      usb.epStallArm = 0;
      usb.sendSetupPacket(c.setup);
      c.stage = c.setup[0] & 0x80 ? 'in' : c.data.length ? 'out' : 'status in';
      c.toggle = 1;
    } else if (c.stage === 'out') {
      const got = transfer(0, true, c.data.subarray(0, 64), c.toggle);
      if (got === 'stall') return finish('stall');
      if (got) {
        c.toggle ^= 1;
        c.data = c.data.subarray(64);
        if (!c.data.length) c.stage = 'status in';
      }
    } else if (c.stage === 'in') {
      const got = transfer(0, false, null, c.toggle);
      if (got === 'stall') return finish('stall');
      if (got) {
        c.toggle ^= 1;
        c.answer.push(...got);
        if (got.length < 64 || c.answer.length >= c.asked) c.stage = 'status out';
      }
    } else if (c.stage === 'status in') {
      const got = transfer(0, false, null, 1);
      if (got) finish(got === 'stall' ? 'stall' : '');
    } else if (transfer(0, true, new Uint8Array(0), 1)) {
      finish(hex(c.answer));
    }
    return undefined;
  }

  function pump() {
    pumping = false;
    if (control) step();
    if (out.length) {
      const got = transfer(DATA, true, out[0], outToggle);
      if (got === 'stall') say({ out: out.length = 0 });
      else if (got) {
        outToggle ^= 1;
        out.shift();
        if (!out.length) say({ out: true });
      }
    }
    if (reading) {
      const got = transfer(DATA, false, null, inToggle);
      if (got && got !== 'stall') {
        inToggle ^= 1;
        say({ in: hex(got) });
      }
    }
    work();
  }

  const pumpAlarm = clock.createAlarm(pump);
  function work() {
    const busy = control || out.length || (reading && memory.getUint32(place(DATA, false), true) & AVAILABLE);
    if (busy && !pumping) {
      pumping = true;
      pumpAlarm.schedule(BETWEEN_NS);
    }
  }

  const frameAlarm = clock.createAlarm(() => {
    if (frames) usb.sofFrameNumber = (usb.sofFrameNumber + 1) & 0x7ff;
    frameAlarm.schedule(FRAME_NS);
    work();
  });
  frameAlarm.schedule(FRAME_NS);

  function obey(told) {
    if (told.reset) {
      address = inToggle = outToggle = 0;
      control = null;
      out.length = 0;
      usb.sieStatus |= BUS_RESET;
      usb.sieStatusUpdated();
    }
    if (told.address !== undefined) address = told.address;
    if (told.configured) inToggle = outToggle = 0;
    if (told.frames !== undefined) frames = told.frames;
    if (told.read !== undefined) reading = told.read;
    if (told.rom !== undefined) bootRom(chip, told.rom);
    if (told.out) {
      const bytes = Buffer.from(told.out, 'hex');
      for (let at = 0; at < bytes.length; at += 64) out.push(bytes.subarray(at, at + 64));
      if (bytes.length % 64 === 0) out.push(bytes.subarray(0, 0)); // as hosts may
    }
    if (told.control) {
      const [setup, data] = told.control.map((text) => Buffer.from(text, 'hex'));
      control = { setup, data, stage: 'setup', asked: setup.readUInt16LE(6), answer: [], tries: 0 };
    }
    work();
  }

  let line = '';
  process.stdin.on('data', (bytes) => {
    line += bytes;
    const lines = line.split('\n');
    line = lines.pop();
    for (const one of lines) obey(JSON.parse(one));
    wake();
  });
  process.stdin.on('end', end);
}
