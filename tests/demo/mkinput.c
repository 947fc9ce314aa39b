/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkinput.c - inputs of the demo, the same bytes for the same seed on every machine.
 *
 *	mkinput wav SEED SECONDS FILE	44.1 kHz stereo: a melody with overtones, and noise
 *	mkinput text SEED BYTES FILE	log lines of made-up words, as much alike as real ones
 *
 * Integer arithmetic alone, so that no rounding of a floating-point unit gets into the files.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE 44100

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1dull;
}

/* A parabola per half wave is near enough to a sine; phase and value are 16 bit. */
static int wave(uint16_t phase)
{
	int x = (int16_t)phase;
	int y = x - (int)((int64_t)x * abs(x) >> 15);

	return y * 4 > 32767 ? 32767 : y * 4 < -32767 ? -32767 : y * 4;
}

static void le(FILE *f, uint32_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		putc((int)(v >> (8 * i) & 0xff), f);
}

static void wav_header(FILE *f, uint32_t frames)
{
	fwrite("RIFF", 1, 4, f);
	le(f, 36 + frames * 4, 4);
	fwrite("WAVEfmt ", 1, 8, f);
	le(f, 16, 4);
	le(f, 1, 2);
	le(f, 2, 2);
	le(f, RATE, 4);
	le(f, RATE * 4, 4);
	le(f, 4, 2);
	le(f, 16, 2);
	fwrite("data", 1, 4, f);
	le(f, frames * 4, 4);
}

static void make_wav(FILE *f, uint64_t seed, uint32_t seconds)
{
	/* phase steps of a pentatonic scale from 220 Hz on */
	static const uint16_t scale[] = { 327, 388, 436, 490, 582, 654, 777, 872, 981, 1165 };
	uint16_t step[3] = { scale[0], scale[2], scale[4] }, phase[6] = { 0 };
	int loud[3] = { 0 };

	wav_header(f, seconds * RATE);
	for (uint32_t t = 0; t < seconds * RATE; t++) {
		int left = 0, right = 0, noise;

		for (int v = 0; v < 3; v++) {
			int tone;

			if (t % (RATE / 8 * (v + 1)) == 0) {
				step[v] = scale[next(&seed) % 10];
				loud[v] = 3000 + (int)(next(&seed) % 6000);
			}
			phase[2 * v] = (uint16_t)(phase[2 * v] + step[v]);
			phase[2 * v + 1] = (uint16_t)(phase[2 * v + 1] + step[v] * 3);
			tone = wave(phase[2 * v]) + wave(phase[2 * v + 1]) / 4;
			tone = (int)((int64_t)tone * loud[v] >> 15);
			if (t % 8 == 0)
				loud[v] -= loud[v] >> 12;
			left += tone * (3 - v) / 3;
			right += tone * (v + 1) / 3;
		}
		noise = (int)(next(&seed) >> 56) - 128;
		le(f, (uint16_t)(left + noise), 2);
		le(f, (uint16_t)(right - noise), 2);
	}
}

static void make_text(FILE *f, uint64_t seed, uint64_t bytes)
{
	static const char syllables[][4] = { "ka",  "lo", "mir", "ten", "su",  "ra",
					     "vel", "no", "pi",	 "shu", "dor", "en",
					     "tal", "gi", "bo",	 "xe" };
	char words[512][16] = { "" };
	char line[256];
	uint64_t done = 0, clock = 1700000000;

	for (int i = 0; i < 512; i++)
		for (int n = 1 + (int)(next(&seed) % 4); n >= 0; n--)
			strcat(words[i], syllables[next(&seed) >> 60]);
	while (done < bytes) {
		int len, n = 3 + (int)(next(&seed) % 8);

		clock += next(&seed) % 3;
		len = snprintf(line, sizeof(line),
			       "%llu node%llu %s[%llu]:", (unsigned long long)clock,
			       (unsigned long long)(next(&seed) % 64), words[next(&seed) % 16],
			       (unsigned long long)(next(&seed) % 32768));
		for (; n > 0; n--) {
			/* frequent words are those with small numbers */
			uint64_t r = next(&seed) % 512;

			len += snprintf(line + len, sizeof(line) - (size_t)len, " %s",
					words[r * (next(&seed) % 512) / 512]);
		}
		len += snprintf(line + len, sizeof(line) - (size_t)len, " %llx\n",
				(unsigned long long)(next(&seed) >> 44));
		if ((uint64_t)len > bytes - done)
			len = (int)(bytes - done);
		fwrite(line, 1, (size_t)len, f);
		done += (uint64_t)len;
	}
}

int main(int argc, char **argv)
{
	uint64_t seed, amount;
	FILE *f;

	if (argc != 5 || (strcmp(argv[1], "wav") != 0 && strcmp(argv[1], "text") != 0)) {
		fprintf(stderr, "usage: mkinput wav|text SEED SECONDS|BYTES FILE\n");
		return 2;
	}
	seed = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15ull + 88172645463325252ull;
	amount = strtoull(argv[3], NULL, 10);
	f = fopen(argv[4], "we");
	if (!f) {
		perror(argv[4]);
		return 1;
	}
	if (argv[1][0] == 'w')
		make_wav(f, seed, (uint32_t)amount);
	else
		make_text(f, seed, amount);
	if (fclose(f) != 0) {
		perror(argv[4]);
		return 1;
	}
	return 0;
}
