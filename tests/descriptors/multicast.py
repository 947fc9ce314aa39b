# SPDX-License-Identifier: GPL-2.0-or-later
# Multicast memberships.
import socket,struct,sys,os,time
D=sys.argv[1]; os.chdir(D)
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',0)); P=s.getsockname()[1]
s.setsockopt(0,socket.IP_ADD_MEMBERSHIP,socket.inet_aton('239.1.2.3')+socket.inet_aton('127.0.0.1'))
v=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); v.bind(('::',0)); lo=socket.if_nametoindex('lo')
v.setsockopt(41,socket.IPV6_JOIN_GROUP,socket.inet_pton(socket.AF_INET6,'ff01::1234')+struct.pack('I',lo))
open('ready','w').close()
while not os.path.exists('go'): time.sleep(0.02)
ig=open('/proc/net/igmp').read().upper(); i6=open('/proc/net/igmp6').read()
ok=['030201EF' in ig,'ff010000000000000000000000001234' in i6]
t=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); t.setsockopt(0,socket.IP_MULTICAST_IF,socket.inet_aton('127.0.0.1')); t.sendto(b'mc',('239.1.2.3',P)); s.settimeout(2)
try: ok.append(s.recv(10)==b'mc')
except Exception as e: ok.append(repr(e))
open('result','w').write('PASS' if all(x is True for x in ok) else 'FAIL %r'%ok)
