// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFile } = require('child_process');
const crypto = require('crypto');
const fs = require('fs');

if (!isMainThread) {
	let h = 'seed ' + workerData;
	for (let i = 0; i < 250000; i++) {
		h = crypto.createHash('sha256').update(h).digest('hex');
		if (i % 50000 === 0)
			parentPort.postMessage({ i, h });
	}
	parentPort.postMessage({ i: 'end', h });
} else {
	const lines = [];
	const jobs = [];
	for (let w = 0; w < 2; w++)
		jobs.push(new Promise((res, rej) => {
			const worker = new Worker(__filename, { workerData: w });
			worker.on('message', (m) => lines.push(`worker ${w} ${m.i} ${m.h}`));
			worker.on('error', rej);
			worker.on('exit', res);
		}));
	let ticks = 0;
	jobs.push(new Promise((res) => {
		const t = setInterval(() => {
			if (++ticks === 100) {
				clearInterval(t);
				lines.push('ticks 100');
				res();
			}
		}, 10);
	}));
	jobs.push(new Promise((res) => setTimeout(() => { lines.push('timeout'); res(); }, 1500)));
	jobs.push(new Promise((res, rej) => execFile('sh', ['-c', 'sleep 1; echo child'],
		(e, out) => { lines.push('child ' + out.trim()); e ? rej(e) : res(); })));
	jobs.push(fs.promises.readFile(__filename).then((b) => lines.push('read ' + b.length)));
	Promise.all(jobs).then(() => {
		lines.sort();
		console.log(lines.join('\n'));
	}, (e) => { console.error(e); process.exit(1); });
}
