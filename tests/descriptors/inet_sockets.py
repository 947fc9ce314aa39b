# SPDX-License-Identifier: GPL-2.0-or-later
# TCP in every state that both ends in one job can have, UDP, listeners.
import os,socket,struct,sys,time,select,errno
D=sys.argv[1]; os.chdir(D)
def wait():
    open('ready','w').close()
    while not os.path.exists('go'): time.sleep(0.02)
fails=[]
def chk(n,a,b):
    if a!=b: fails.append('%s: got %r want %r'%(n,repr(a)[:100],repr(b)[:100]))
def pair(fam=socket.AF_INET,addr='127.0.0.1',caddr=None,keep=True):
    l=socket.socket(fam); l.setsockopt(1,2,1); l.bind((addr,0)); l.listen(5)
    c=socket.socket(socket.AF_INET if caddr and '.' in caddr else fam); c.connect((caddr or addr,l.getsockname()[1])); s,_=l.accept()
    if not keep: l.close(); l=None
    return l,c,s
l1,c1,s1=pair()
c1.send(b'hello'); s1.send(b'world'*1000)
l2,c2,s2=pair(socket.AF_INET6,'::1',keep=False); c2.send(b'six'); c2.setsockopt(6,1,1)
l3,c3,s3=pair(socket.AF_INET6,'::','127.0.0.1'); s3.send(b'mapped')
# full both ways
l4,c4,s4=pair(); c4.setblocking(False); n4=0
pat=bytes(range(256))*4
try:
    while True: n4+=c4.send(pat[n4%256:])
except BlockingIOError: pass
time.sleep(0.3)
try:
    while True: n4+=c4.send(pat[n4%256:])
except BlockingIOError: pass
s4.send(b'rev')
# half closed
l5,c5,s5=pair(); c5.send(b'bye'); c5.shutdown(1); s5.send(b'still')
# orphan
l6,c6,s6=pair(); c6.send(b'orph'); c6.close()
# reset / closed
l7,c7,s7=pair(); c7.shutdown(2); s7.shutdown(2)
# udp
u1=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u1.bind(('127.0.0.1',0))
u2=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u2.connect(u1.getsockname()); u2.send(b'd1'); u2.send(b''); u2.send(b'd3')
un2=u2.getsockname()
# listening with options
l8=socket.socket(); l8.setsockopt(1,9,1); l8.setsockopt(6,4,77); l8.setsockopt(6,5,11); l8.bind(('127.0.0.1',0)); l8.listen(17)
p8=l8.getsockname()
# big unread in background child
pid=os.fork()
if pid==0:
    l9=None
    time.sleep(1000)
addrs=[x.getsockname() for x in (c1,s1,c2,s2,c3,s3)]; peers=[x.getpeername() for x in (c1,s1,c2,s2,c3,s3)]
time.sleep(0.2)
wait()
os.kill(pid,9); os.waitpid(pid,0)
chk('addrs',[x.getsockname() for x in (c1,s1,c2,s2,c3,s3)],addrs); chk('peers',[x.getpeername() for x in (c1,s1,c2,s2,c3,s3)],peers)
for x in (c1,s1,c2,s2,c3,s3,s4,c5,s5,s6): x.settimeout(5)
def rdn(s,n):
    b=b''
    while len(b)<n:
        d=s.recv(65536 if n-len(b)>65536 else n-len(b))
        if not d: break
        b+=d
    return b
chk('hello',rdn(s1,5),b'hello'); chk('world',rdn(c1,5000),b'world'*1000); c1.send(b'ping'); chk('ping',rdn(s1,4),b'ping')
chk('six',rdn(s2,3),b'six'); chk('nodelay',c2.getsockopt(6,1)!=0,True); s2.send(b'r'); chk('r',rdn(c2,1),b'r')
chk('mapped',rdn(c3,6),b'mapped'); c3.send(b'x'); chk('x',rdn(s3,1),b'x')
got=rdn(s4,n4); want=(bytes(range(256))*(n4//256+2))[:n4]
chk('n4',len(got),n4); chk('c4',got==want,True); c4.setblocking(True); c4.settimeout(5); chk('rev',rdn(c4,3),b'rev')
chk('bye',rdn(s5,10),b'bye'); chk('still',rdn(c5,5),b'still'); s5.close(); chk('eof',c5.recv(1),b'')
chk('orph',rdn(s6,10),b'orph')
chk('u',[u1.recvfrom(10) for _ in range(3)],[(b'd1',un2),(b'',un2),(b'd3',un2)]); u1.sendto(b'back',un2); chk('back',u2.recv(10),b'back')
chk('l8',l8.getsockname(),p8); chk('opts',(l8.getsockopt(1,9),l8.getsockopt(6,4),l8.getsockopt(6,5)),(1,77,11))
k=socket.create_connection(p8); z,_=l8.accept(); k.send(b'q'); chk('acc',z.recv(1),b'q')
k=socket.create_connection(l1.getsockname()); z,_=l1.accept(); k.send(b'q'); chk('acc1',z.recv(1),b'q')
try: c7.send(b'x'); chk('c7',0,1)
except OSError: pass
chk('c7r',c7.recv(1),b'')
open('result','w').write('PASS\n' if not fails else 'FAIL\n'+'\n'.join(fails)+'\n')
