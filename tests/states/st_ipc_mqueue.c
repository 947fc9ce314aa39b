/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POSIX message queues: messages in order of priority, attributes, one without name. */
#include "state.h"

#include <mqueue.h>

int main(int argc, char **argv)
{
	struct mq_attr attr = { .mq_maxmsg = 6, .mq_msgsize = 100 }, now;
	char name[64], buf[100];
	mqd_t q, r, anon;
	unsigned prio;

	st_begin(argc, argv);
	snprintf(name, sizeof(name), "/st_mqueue.%d", getpid());
	q = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	if (q < 0)
		st_skip("no message queues: %s", strerror(errno));
	r = ST_SYS(mq_open(name, O_RDONLY | O_NONBLOCK));
	ST_SYS(mq_send(q, "low", 4, 1));
	ST_SYS(mq_send(q, "high", 5, 30));
	ST_SYS(mq_send(q, "low again", 10, 1));
	strcat(name, ".gone");
	anon = ST_SYS(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr));
	ST_SYS(mq_unlink(name));
	ST_SYS(mq_send(anon, "nameless", 9, 5));
	st_wait();
	ST_EQ(mq_getattr(r, &now), 0);
	ST_EQ(now.mq_maxmsg, 6);
	ST_EQ(now.mq_msgsize, 100);
	ST_EQ(now.mq_curmsgs, 3);
	ST_EQ(now.mq_flags, O_NONBLOCK);
	ST_EQ(mq_receive(r, buf, sizeof(buf), &prio), 5);
	ST_EQ(prio, 30);
	ST_EQ(mq_receive(r, buf, sizeof(buf), &prio), 4);
	ST_EQ(mq_receive(r, buf, sizeof(buf), &prio), 10);
	ST_EQ(mq_receive(r, buf, sizeof(buf), &prio), -1);
	ST_EQ(mq_receive(anon, buf, sizeof(buf), &prio), 9);
	ST_EQ(mq_send(q, "new", 4, 2), 0);
	ST_EQ(mq_receive(r, buf, sizeof(buf), &prio), 4);
	name[strlen(name) - 5] = 0;
	ST_EQ(mq_unlink(name), 0);
	return st_end();
}
